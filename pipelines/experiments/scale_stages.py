"""One stage over a generated log, measured: CPU seconds of this process, wall seconds, peak memory, bytes written."""

import io
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.scale_index import CODED, PLAIN, QUANTIZED, QUERIES, measure_search
from pipelines.index import users_queries
from pipelines.metatrain import table_of
from pipelines.publish import BUNDLE
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.artifacts.bundle import QBundle, load_bundle
from recsys.artifacts.files import files_below
from recsys.config import RunConfig
from recsys.evaluation.cold_start import history_of
from recsys.learning.checkpoint import load_teacher
from recsys.logs.prepared import Role, open_prepared
from recsys.recommender import load_recommender
from recsys.request_form import RequestForm

# One epoch of each trainer, few validation users: what is measured is the cost of an event, not of looking at it. The
# vectors are as narrow as a catalogue of a million wants: 16 + 32 + 32 + 1 numbers an item.
SETTINGS = (
    "name=scale",
    "prepare.content_features=32",
    "prepare.split.kind=users",
    "model.item_features=16",
    "factors.features=32",
    "memory.features=32",
    "memory.folds=2",
    "pretrain.epochs=1",
    "pretrain.warmup_epochs=0",
    "metatrain.epochs=1",
    "distill.epochs=1",
    "evaluate.max_users=30",
    "index.kind=auto",
)
Row = dict[str, Any]


def config_of(folder: Path) -> RunConfig:
    """Return the run over the log in a folder."""
    more = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings = [*SETTINGS, *more]
    places = [f"prepare.log.path={folder / 'log'}", f"output={folder}", "prepare.split.test_from=none"]
    return resolve_config("default", [*settings, *places])


def measured(work: Callable[[], object]) -> Row:
    """Return what a piece of work took of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "cpu_s": round(time.process_time() - cpu, 2),
        "wall_s": round(time.perf_counter() - began, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def stage(name: str) -> Callable[[Path], list[Row]]:
    """Return the measurement of one step, the steps before it made already."""

    def measure(folder: Path) -> list[Row]:
        config = config_of(folder)
        row = measured(lambda: run_steps(config, all_steps(), (name,), Console(file=io.StringIO())))
        made = folder / config.name / name
        row["disk_mb"] = sum((made / path).stat().st_size for path in files_below(made)) // 1_000_000
        return [{"stage": name, **row}]

    return measure


def vectors(folder: Path) -> list[Row]:
    """Write what an index holds of the catalogue, [e_i, b_i] of the pretrained teacher, to vectors.npy."""
    config = config_of(folder)
    teacher = load_teacher(folder / config.name / "pretrain", config.pretrain.temperature)
    np.save(folder / "vectors.npy", table_of(teacher, None).index_vectors().numpy())
    return []


def search(what: str, kinds: tuple[str, ...]) -> Callable[[Path], list[Row]]:
    """Return the measurement of search over those vectors, or over as many random ones."""

    def measure(folder: Path) -> list[Row]:
        trained = np.load(folder / "vectors.npy")
        if what == "trained":
            return measure_search(trained, what, kinds)
        noise = np.random.default_rng(7).standard_normal(trained.shape, dtype=np.float32)
        return measure_search(noise, what, kinds)

    return measure


def asked(folder: Path) -> list[Row]:
    """Measure search by what test users ask, through the bundle's own index too, and a whole list."""
    config = config_of(folder)
    steps = folder / config.name
    log = open_prepared(steps / "prepare")
    recommender = load_recommender(steps / "index" / BUNDLE)
    bundle = load_bundle(steps / "index" / BUNDLE)
    if not isinstance(bundle, QBundle):
        raise TypeError(f"{steps / 'index' / BUNDLE} holds a {type(bundle).__name__}")
    form = RequestForm(
        bundle.student, bundle.prior, bundle.table, bundle.info.state.max_events, bundle.info.discount
    )
    queries = users_queries(log, form, np.random.default_rng(8), Role.COLD_TEST)[:QUERIES]
    chosen = bundle.info.index
    own = f"{chosen.kind} probes {chosen.ivf_probes}"
    vectors = bundle.table.index_vectors().numpy()
    rows = measure_search(vectors, "a served bundle's", (CODED, PLAIN), queries, {own: bundle.index})
    taken = []
    for user in log.with_role(Role.COLD_TEST)[:QUERIES]:
        history = history_of(log, int(user), 20)
        began = time.process_time()
        recommender.recommend(history, 20, seed=0)
        taken.append(time.process_time() - began)
    served = {"stage": "a list of 20, adapted", "index": own}
    return [*rows, served | {"list_ms": round(1000 * float(np.median(taken)), 3)}]


STAGES: dict[str, Callable[[Path], list[Row]]] = {
    **{name: stage(name) for name in ("prepare", "pretrain", "metatrain", "distill", "index")},
    "vectors": vectors,
    "coded": search("trained", (CODED, PLAIN)),
    "quantized": search("trained", QUANTIZED),
    "random": search("random", (CODED,)),
    "asked": asked,
}
