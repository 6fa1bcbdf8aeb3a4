"""Items without a history: what users get of them, by where their rows come from.

    python -m pipelines.experiments.new_items --seeds 7,8,9 --marks FOLDER [--set evaluate.shots=[0,1,3,5,10]]

Of the bundled log, cut by time, some items are first bought after the cut: no training reaches them but through the
content map of the item tower. `trained` leaves their rows so (`index.unseen = "trained"`); `content` gives each the
mean row of the items most like it, as the endpoint does for items put live (`index.unseen = "content"`); `shuffled`
deals those means out among the new items, which leaves their level and takes away what content says. The student that
is served ranks; test users are those of `evaluate`. First tables: users who later took a new item, NDCG@10 of new items
ranked among each other, and the share of theirs in the first twenty of the whole catalogue. Then: all users, all items.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.command import run_command
from pipelines.experiments.distillation import student_of
from pipelines.experiments.kshot_marks import MarkedUsers, markdown, save_marks
from pipelines.index import with_content_rows
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.artifacts.bundle import read_catalogue
from recsys.config import RunConfig
from recsys.evaluation.cold_start import ColdCases, cold_cases, exclusion_mask
from recsys.evaluation.ranking import QuerySets, hits, ndcg, recall, tie_order, top_items
from recsys.learning.teachers import Learner
from recsys.logs.prepared import Role, open_prepared
from recsys.models.item_table import ItemTable
from recsys.models.student import StudentNetwork
from recsys.randomness import numpy_generator
from recsys.request_form import RequestForm
from recsys.types import BoolArray, FloatArray

CUTOFF, RECALL_CUTOFF = 10, 20
CONTENT = "content"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, mark every kind of rows, print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--marks", type=Path, required=True, help="folder that keeps every user's marks")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    asked = parser.parse_args(arguments)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    console = Console(stderr=True)
    for seed in seeds:
        own = [f"seed={seed}", f"name=new-items-{seed}", f"output={asked.runs}"]
        mark(resolve_config("default", [*asked.set, *own]), asked.marks, console)
    for part in ("new", "all"):
        print(f"### {part} items\n\n{markdown(asked.marks / part, seeds, CONTENT)}\n")


def mark(config: RunConfig, folder: Path, console: Console) -> None:
    """Mark the student of one seed with each kind of rows."""
    found = {
        outcome.step: outcome.folder for outcome in run_steps(config, all_steps(), ("distill",), console)
    }
    log = open_prepared(found["prepare"])
    with np.load(found["metatrain"] / "statistics.npz") as statistics:
        unseen = statistics["popularity"] == 0
    student = student_of(found["distill"])
    content = with_content_rows(student.table, read_catalogue(found["prepare"] / "items.parquet"), unseen)
    tables = {
        "trained": student.table,
        CONTENT: content,
        "shuffled": shuffled(content, unseen, numpy_generator(config.seed, "shuffled")),
    }
    settings = config.evaluate
    generator = numpy_generator(config.seed, "test")
    cases = cold_cases(log, Role.COLD_TEST, max(settings.shots), settings.max_users, generator)
    is_new = unseen[cases.query.item]
    before = np.concatenate([[0], np.cumsum(is_new)])  # new ones among the first so many
    new = QuerySets(cases.query.item[is_new], before[cases.query.offsets])
    taken, takers = is_new.mean(), int((new.sizes > 0).sum())
    items = f"{int(unseen.sum())} of {len(unseen)} items are new"
    text = f"{items}, {taken:.3f} of what {len(cases)} users took, {takers} of whom took one"
    console.print(f"[{config.name}] {text}", highlight=False, markup=False)
    for name, table in tables.items():
        scores = [scores_of(config, replace(student, table=table), cases, k) for k in settings.shots]
        parts = marks_of(scores, cases, new, unseen, np.asarray(settings.shots))
        for part, marks in parts.items():
            save_marks(folder / part, config.seed, name, config.model_dump_json(), marks)


def shuffled(table: ItemTable, unseen: BoolArray, generator: np.random.Generator) -> ItemTable:
    """Return the table with the rows of new items dealt out among them."""
    order = np.arange(len(unseen))
    order[unseen] = generator.permutation(order[unseen])
    rows = torch.from_numpy(order)
    return replace(table, vectors=table.vectors[rows], bias=table.bias[rows], features=table.features[rows])


def scores_of(config: RunConfig, student: Learner, cases: ColdCases, k: int) -> FloatArray:
    """Return the adapted Q of every item after the first k events of every user, (user, item), less V."""
    assert isinstance(student.network, StudentNetwork)  # noqa: S101 - student_of makes no other
    form = RequestForm(
        student.network, student.prior, student.table, config.state.max_events, config.pretrain.discount
    )
    queries = [form.query(history.first(k), adapt=True, memory=True)[0][:-1] for history in cases.first]
    found: FloatArray = np.stack(queries) @ student.table.index_vectors().numpy().T
    return found


def marks_of(
    scores: Sequence[FloatArray], cases: ColdCases, new: QuerySets, unseen: BoolArray, shots: np.ndarray
) -> dict[str, MarkedUsers]:
    """Return marks of new items, of users who took one, and of all items, of all users; by number of events."""
    excluded, ties = exclusion_mask(cases, len(unseen)), tie_order(len(unseen), seed=0)
    takers = new.sizes > 0
    rows: dict[str, list[FloatArray]] = {"new ndcg": [], "new recall": [], "all ndcg": [], "all recall": []}
    for of_shot in scores:
        whole = top_items(of_shot, excluded, RECALL_CUTOFF, ties)
        among = top_items(of_shot, excluded | ~unseen, CUTOFF, ties)
        rows["new ndcg"].append(ndcg(hits(among, new), new.sizes)[takers])
        rows["new recall"].append(recall(hits(whole, new), new.sizes)[takers])
        rows["all ndcg"].append(ndcg(hits(whole[:, :CUTOFF], cases.query), cases.query.sizes))
        rows["all recall"].append(recall(hits(whole, cases.query), cases.query.sizes))
    mean = {name: np.stack(marks) for name, marks in rows.items()}
    return {
        "new": MarkedUsers(shots, cases.history[takers], mean["new ndcg"], mean["new recall"]),
        "all": MarkedUsers(shots, cases.history, mean["all ndcg"], mean["all recall"]),
    }


if __name__ == "__main__":
    run_command(main)
