"""Notebooks run from top to bottom, agree with their .py, and ship with the outputs of a full run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
MACHINE = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|var)/\w")  # a path of whoever ran it
_LONGEST_S = 600


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that the pages share, as they do in a checkout: what one has trained the next one keeps."""
    return tmp_path_factory.mktemp("runs")


def name(path: Path) -> str:
    return path.stem


def shipped(source: Path) -> NotebookNode:
    return jupytext.read(source.with_suffix(".ipynb"))


def test_there_are_numbered_notebooks_without_a_gap() -> None:
    assert [int(source.name[:2]) for source in SOURCES] == list(range(1, len(SOURCES) + 1))
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {source.stem for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_a_notebook_and_its_py_say_the_same(source: Path) -> None:
    """`make notebooks` writes the one from the other."""
    told, kept = jupytext.read(source), shipped(source)
    assert [(cell.cell_type, cell.source) for cell in told.cells] == [
        (cell.cell_type, cell.source) for cell in kept.cells
    ]


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_a_notebook_opens_with_its_question_and_closes_with_the_answer(source: Path) -> None:
    words = [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown"]
    first_line, *_ = words[0].splitlines()
    assert first_line.startswith(f"# {int(source.name[:2])} · ")
    assert first_line.endswith("?")
    assert "**Answer.**" in words[-1]


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_outputs_of_a_full_run_are_shipped(source: Path) -> None:
    cells = [cell for cell in shipped(source).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = " ".join(
        str(output.get("text", "")) + " ".join(v for k, v in output.get("data", {}).items() if "text" in k)
        for output in outputs
    )
    assert MACHINE.search(text) is None


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_a_notebook_runs_from_top_to_bottom(source: Path, runs: Path) -> None:
    told = {"METAQ_NOTEBOOKS": "smoke", "METAQ_NOTEBOOKS_RUNS": str(runs)}
    environment = {**os.environ, **told, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, source.name], cwd=FOLDER, env=environment, capture_output=True, text=True,
        timeout=_LONGEST_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
