# Every target makes the environment first if it is missing or older than pyproject.toml or constraints.txt.
#
#   make run     train on the bundled log, print the results, serve them on port 8000
#   make test    lint, types, import contracts, tests: what must pass
#   make soak    jobs on a cluster whose nodes die, then 200 kills and 100 swaps of the endpoint under load and an hour of
#                users (KILLS=, SWAPS=, MINUTES=)
#   make bench   speed and memory
#   make bench-peers   environments of the libraries that `make bench` compares with; it leaves out those that are missing
#   make notebooks   run the notebooks at full settings and write their outputs (NOTEBOOKS="01 04": some of them)
#   make serve   serve what was published last, with the users of that log
#
# Variables:
#   CONFIG=default         config of `make run` and `make serve`: a path or a shipped name
#   PYTHON=python3         interpreter of the environment, 3.11 or newer
#   TORCH_INDEX=           index that torch alone is taken from: pytorch.org lists one for the CPU and one per CUDA version
#   WORKERS=2              processes of `make test`

CONFIG ?= default
PYTHON ?= python3
TORCH_INDEX ?=
WORKERS ?= 2
KILLS ?= 200
SWAPS ?= 100
MINUTES ?= 60
NOTEBOOKS ?=
BENCH := tests/benchmarks

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# torch comes first and alone: whatever else is installed then finds it there and never changes its kind.
# With an index of its own, its dependencies still come from the usual one, with everything else.
ifeq ($(strip $(TORCH_INDEX)),)
INSTALL_TORCH = $(PIP) -c constraints.txt torch==2.13.0
else
INSTALL_TORCH = $(PIP) --no-deps --index-url $(TORCH_INDEX) torch==2.13.0
endif

TORCH_FROM = $(if $(strip $(TORCH_INDEX)),--no-deps --index-url $(TORCH_INDEX))

.DEFAULT_GOAL := test
.PHONY: run serve test soak bench bench-peers notebooks lint type environment clean

run: $(READY)
	$(BIN)/recsys run --config $(CONFIG)
	$(BIN)/recsys serve --config $(CONFIG)

serve: $(READY)
	$(BIN)/recsys serve --config $(CONFIG)

# pytest comes last, so that its closing line does too
test: lint type
	$(BIN)/python -m pytest -n $(WORKERS)

soak: $(READY)
	RECSYS_TEST_LONG=1 $(BIN)/python -m pytest tests/on_ray
	$(BIN)/python -m tests.soak.soak_endpoint --kills $(KILLS) --swaps $(SWAPS) --minutes $(MINUTES)

bench: $(READY)
	$(BIN)/python $(BENCH)/bench_prepare.py --events 10000000
	$(BIN)/python $(BENCH)/bench_simulator.py --events 10000000
	$(BIN)/python -m pytest -o addopts= -o "python_files=test_*.py bench_*.py" -q -s $(BENCH)

# Their pins clash with ours and with each other's.
bench-peers: .bench/d3rlpy/.ready .bench/tianshou/.ready .bench/ope/.ready

.bench/d3rlpy/.ready: PEER := d3rlpy==2.8.1
.bench/tianshou/.ready: PEER := tianshou==2.0.1 'pandas<3'
# Open Bandit Pipeline pins what it does not need and refuses Python 3.11; what it does need stands beside it.
.bench/ope/.ready: PEER := numpy pandas scikit-learn scipy matplotlib seaborn tqdm pyyaml ir-measures
.bench/ope/.ready: UNPINNED := obp==0.5.7 vw-estimators==0.2.2
.bench/%/.ready:
	$(PYTHON) -m venv .bench/$*
	.bench/$*/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_FROM) torch==2.13.0
	.bench/$*/bin/python -m pip install --disable-pip-version-check --quiet torch==2.13.0 $(PEER)
	$(if $(UNPINNED),.bench/$*/bin/python -m pip install --disable-pip-version-check --quiet --no-deps \
	  --ignore-requires-python $(UNPINNED))
	touch $@

notebooks: $(READY)
	$(PIP) -c constraints.txt -e '.[notebooks]'
	$(BIN)/python -m tests.notebooks.write_outputs $(NOTEBOOKS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit -q -r recsys serving pipelines -c pyproject.toml

type: $(READY)
	$(BIN)/mypy

environment: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metaq needs Python 3.11 or newer; give PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installs torch and the other dependencies into .venv; the first time this takes minutes"
	$(INSTALL_TORCH)
	$(PIP) -c constraints.txt -e '.[dev]'
	touch $@

# What is made again by the other targets; published models (registry) and live events stay.
clean:
	rm -rf .venv .bench runs dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
