"""Fine-tuning on the last month of a log, beside training anew on all of it and beside leaving the bundle as it is.

    python -m pipelines.experiments.finetuning --work FOLDER --out FILE [--on validation] [--set finetune.epochs=2]

The bundled log is cut at `--since`. A fifth of the users are held out by hash, in every training alike. The parent is a
whole run on the events before the cut; `finetuned` goes on from it with the others; `scratch` is a whole run on all
events. CPU seconds are those of the steps that make a bundle (prepare to index), each measured in this process. NDCG@10
of greedy, adapted lists over the whole catalogue, for the held-out users (pipelines/experiments/moving_cases.py);
differences are paired by user. --work keeps the runs: another setting of fine-tuning trains only that again.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

# numerical libraries read this when they load
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from rich.console import Console  # noqa: E402

from pipelines.configuration import resolve_config  # noqa: E402
from pipelines.experiments.command import run_command  # noqa: E402
from pipelines.experiments.moving_cases import answers, around  # noqa: E402
from pipelines.finetune import finetune  # noqa: E402
from pipelines.publish import BUNDLE  # noqa: E402
from pipelines.runner import run_steps  # noqa: E402
from pipelines.stages import all_steps  # noqa: E402
from recsys import columns as c  # noqa: E402
from recsys.artifacts.bundle import load_bundle  # noqa: E402
from recsys.config import RunConfig  # noqa: E402
from recsys.evaluation.intervals import bootstrap_mean  # noqa: E402
from recsys.logs.prepared import Role, open_prepared  # noqa: E402
from recsys.recommender import Recommender  # noqa: E402
from recsys.types import FloatArray  # noqa: E402

LOG = Path("data/online-retail")
SPLIT = ("prepare.split.kind=users", "prepare.split.test_from=none", "prepare.split.test_share=0.2")
SMALLER = (  # than shipped, so that it ends in minutes on one busy core
    "memory.features=128",
    "memory.folds=2",
    "pretrain.epochs=4",
    "metatrain.epochs=2",
    "distill.epochs=3",
)
STEPS = ("prepare", "pretrain", "metatrain", "distill", "index")
RESAMPLES, CONFIDENCE = 2_000, 0.95


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the three bundles of every seed, ask them, write the figures and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of tables and runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--since", type=datetime.fromisoformat, default=datetime(2011, 11, 9, tzinfo=UTC))
    parser.add_argument("--on", choices=("test", "validation"), default="test")
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[7])
    parser.add_argument("--config", default="default")
    parser.add_argument("--whole", action="store_true", help="train as the config says, not smaller")
    parser.add_argument("--users", type=int, default=400, help="of each kind of question, at most")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    asked = parser.parse_args(arguments)
    console = Console(stderr=True)
    report = {str(seed): _one_seed(asked, seed, console) for seed in asked.seeds}
    asked.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for seed, found in report.items():
        _print(seed, found)


def _one_seed(asked: argparse.Namespace, seed: int, console: Console) -> dict[str, object]:
    before, since = asked.work / "before", asked.work / "since"
    _cut_tables(LOG, before, since, asked.since)
    made, cpu_s = {}, {}
    for name, log in (("parent", before), ("scratch", LOG)):
        config = resolve_config(
            asked.config,
            [
                f"prepare.log.path={log}",
                f"name={name}-{seed}",
                f"seed={seed}",
                f"output={asked.work}",
                *SPLIT,
                *(() if asked.whole else SMALLER),
            ],
        )
        cpu_s[name] = _made(config, asked.work / f"{name}-{seed}.seconds.json", console)
        made[name] = asked.work / f"{name}-{seed}" / "index" / BUNDLE
    label = "".join(letter if letter.isalnum() else "-" for letter in "".join(asked.overrides))
    begun = time.process_time()
    child = finetune(
        str(asked.work / f"parent-{seed}"),
        [since],
        overrides=asked.overrides,
        output=asked.work,
        run_name=f"next-{seed}{label}"[:90],
        evaluate=False,
        to_registry=False,
        force=True,
        console=console,
    )
    cpu_s["finetuned"] = time.process_time() - begun
    made["finetuned"] = child.bundle
    log = open_prepared(child.run / "prepare")
    ids = tuple(pq.read_table(log.root / "items.parquet")[c.ITEM_ID].to_pylist())
    role = Role.COLD_TEST if asked.on == "test" else Role.COLD_VALIDATION
    questions = around(log, role, int(asked.since.timestamp()), asked.users, seed)
    quality: dict[str, dict[str, FloatArray]] = {name: {} for name in made}
    for name, folder in made.items():
        bundle = load_bundle(folder)
        recommender = Recommender(bundle)
        for each in questions.values():
            quality[name][each.name] = answers(recommender, bundle.catalogue.item_ids, ids, each)
    return {
        "cpu_s": {name: round(seconds, 1) for name, seconds in cpu_s.items()},
        "users": {name: len(each) for name, each in questions.items()},
        "new_events": child.new_events,
        "continuity": json.loads((child.run / "continuity" / "continuity.json").read_text(encoding="utf-8")),
        "ndcg": {name: {q: float(v.mean()) for q, v in found.items()} for name, found in quality.items()},
        "paired": {
            f"finetuned - {other}": {
                group: asdict(_paired(quality["finetuned"], quality[other], names, seed))
                for group, names in _groups(list(questions)).items()
            }
            for other in ("parent", "scratch")
        },
    }


def _groups(names: list[str]) -> dict[str, list[str]]:
    """Return the kinds of questions; numbers of events are averaged over."""
    return {
        kind: found
        for kind in ("old", "new", "return")
        if (found := [name for name in names if name.split()[0] == kind])
    }


def _paired(one: dict[str, FloatArray], other: dict[str, FloatArray], names: list[str], seed: int):  # type: ignore[no-untyped-def]
    difference = np.mean([one[name] - other[name] for name in names], axis=0)
    return bootstrap_mean(difference, RESAMPLES, CONFIDENCE, np.random.default_rng(seed))


def _made(config: RunConfig, record: Path, console: Console) -> float:
    """Bring a run up to its index; return the CPU seconds that its steps took when they were made."""
    spent: dict[str, float] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for step in STEPS:
        begun = time.process_time()
        made = run_steps(config, all_steps(), [step], console)[-1]
        if not made.kept:
            spent[step] = time.process_time() - begun
            record.write_text(json.dumps(spent) + "\n", encoding="utf-8")
    return sum(spent.values())


def _cut_tables(log: Path, before: Path, since: Path, moment: datetime) -> None:
    events = pq.read_table(log / "events.parquet")
    early = pc.less(events[c.TIMESTAMP], pa.scalar(moment, events[c.TIMESTAMP].type))
    items, users = pq.read_table(log / "items.parquet"), pq.read_table(log / "users.parquet")
    for folder, part in ((before, events.filter(early)), (since, events.filter(pc.invert(early)))):
        if (folder / "events.parquet").is_file():
            continue
        folder.mkdir(parents=True)
        for name, table, key in (("items", items, c.ITEM_ID), ("users", users, c.USER_ID)):
            named = table.filter(pc.is_in(table[key], value_set=pc.unique(part[key])))
            pq.write_table(named, folder / f"{name}.parquet")
        pq.write_table(part, folder / "events.parquet")


def _print(seed: str, found: dict[str, object]) -> None:
    print(f"seed {seed}: CPU seconds {found['cpu_s']}, continuity {found['continuity']}")
    users, ndcg, paired = found["users"], found["ndcg"], found["paired"]
    print("| NDCG@10 |", " | ".join(f"{name} ({count})" for name, count in users.items()), "|")  # type: ignore[attr-defined]
    for name, row in ndcg.items():  # type: ignore[attr-defined]
        print(f"| {name} |", " | ".join(f"{value:.4f}" for value in row.values()), "|")
    for name, row in paired.items():  # type: ignore[attr-defined]
        told = (f"{kind} {v['mean']:+.4f} [{v['low']:+.4f}, {v['high']:+.4f}]" for kind, v in row.items())
        print(f"{name}:", "; ".join(told))


if __name__ == "__main__":
    run_command(main)
