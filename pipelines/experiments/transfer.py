"""What a bundle of another log is worth to a new one: learning curves beside training from nothing.

    python -m pipelines.experiments.transfer --pair shop --target FOLDER --work FOLDER --out FILE [--seeds 7,8,9]
    python -m pipelines.experiments.transfer --pair movies --source FOLDER --target FOLDER --work FOLDER --out FILE

Pairs are those of transfer_tables.py. The source is trained once a seed. Of the target's training users a share
(`--shares`) is kept, the same for both arms; validation users, 8 % of all, choose the epoch in both. Both arms are
one architecture with the same settings: `transfer` starts from the source, `scratch` from nothing. NDCG@10 of
held-out users over the whole catalogue after 0, 1, 3, 5 and 10 events, teacher with its head; differences paired by
user, and over all seeds too, where a user of several is one user. The file grows by one seed at a time.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# numerical libraries read this when they load
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from rich.console import Console  # noqa: E402

from pipelines import metatrain, pretrain  # noqa: E402
from pipelines.cases import test_cases  # noqa: E402
from pipelines.configuration import resolve_config  # noqa: E402
from pipelines.experiments.command import run_command  # noqa: E402
from pipelines.experiments.kshot_marks import by_user  # noqa: E402
from pipelines.experiments.transfer_tables import PAIRS, write_pair  # noqa: E402
from pipelines.metatrain import table_of  # noqa: E402
from pipelines.progress import say  # noqa: E402
from pipelines.runner import run_steps, settle_chance  # noqa: E402
from pipelines.stages import all_steps  # noqa: E402
from pipelines.steps import StepContext  # noqa: E402
from recsys import columns as c  # noqa: E402
from recsys.config import RunConfig  # noqa: E402
from recsys.evaluation.curve import kshot_curve  # noqa: E402
from recsys.evaluation.intervals import Interval, bootstrap_mean  # noqa: E402
from recsys.learning.checkpoint import load_head, load_teacher  # noqa: E402
from recsys.logs.prepared import open_prepared  # noqa: E402
from recsys.randomness import numpy_generator  # noqa: E402
from recsys.types import FloatArray  # noqa: E402

SETTINGS = (  # small: thirty trainings a pair and seed
    "prepare.content_space=shared",
    "prepare.content_features=128",
    "prepare.split.kind=users",
    "prepare.split.test_from=none",
    "prepare.split.test_share=0.25",
    "model.item_features=32",
    "model.hidden=32",
    "factors.features=64",
    "memory.features=128",
    "memory.folds=2",
    "pretrain.epochs=4",
    "pretrain.warmup_epochs=1",
    "pretrain.batch_size=32",
    "metatrain.epochs=2",
    "metatrain.amortised_features=0",
    "metatrain.negatives=512",
)
RESAMPLES, CONFIDENCE = 2_000, 0.95


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every share twice, write the figures and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", choices=tuple(PAIRS), required=True)
    parser.add_argument("--source", type=Path, default=Path("data/online-retail"))
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of tables and runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shares", type=_numbers, default=[0.0, 0.01, 0.05, 0.2, 1.0])
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[7])
    parser.add_argument("--users", type=int, default=1200, help="of each log")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    asked = parser.parse_args(arguments)
    console = Console(stderr=True)
    report: dict[str, dict[str, dict[str, Any]]] = {}
    for seed in asked.seeds:
        report[str(seed)] = _one_seed(asked, seed, console)
        asked.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for seed, curve in report.items():
        print(f"| {asked.pair}, seed {seed}: share | users | scratch | transfer | difference |")
        for share, row in curve.items():
            d = row["paired"]
            told = f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
            print(f"| {share} | {row['users']} | {row['scratch']:.4f} | {row['transfer']:.4f} | {told} |")
    if len(report) > 1:
        print(f"| {asked.pair}, seeds {', '.join(report)}: share | users | scratch | transfer | difference |")
        for share in map(str, asked.shares):
            rows = [curve[share] for curve in report.values()]
            found, users = pooled(rows)
            means = " | ".join(
                f"{np.mean([row[arm] for row in rows]):.4f}" for arm in ("scratch", "transfer")
            )
            told = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            print(f"| {share} | {users} | {means} | {told} |")


def pooled(rows: Sequence[dict[str, Any]]) -> tuple[Interval, int]:
    """Return the mean difference of all seeds with its interval over distinct users, and how many these are."""
    values = np.concatenate([np.array(row["differences"]) for row in rows])
    each = by_user(values[None], np.concatenate([np.array(row["user_ids"]) for row in rows]))[0]
    return bootstrap_mean(each, RESAMPLES, CONFIDENCE, np.random.default_rng(0)), len(each)


def _one_seed(asked: argparse.Namespace, seed: int, console: Console) -> dict[str, dict[str, Any]]:
    _, _, settings, match = PAIRS[asked.pair]
    here, there = write_pair(asked.pair, asked.source, asked.target, asked.work, asked.users, seed)

    def config(name: str, log: Path) -> RunConfig:
        places = [f"prepare.log.path={log}", f"name={asked.pair}-{name}-{seed}", f"output={asked.work}"]
        return resolve_config("default", [*SETTINGS, *settings, *places, f"seed={seed}", *asked.overrides])

    source, target = config("source", here), config("target", there)
    run_steps(source, all_steps(), ["metatrain"], console)
    run_steps(target, all_steps(), ["prepare"], console)
    root = asked.work / target.name
    warm = target.transfer.model_copy(update={"source": asked.work / source.name, "match": match})
    arms = {"scratch": target, "transfer": target.model_copy(update={"transfer": warm})}
    curve: dict[str, dict[str, Any]] = {}
    for share in asked.shares:
        prepared = _part(root / "prepare", root / f"part-{share}", share, seed)
        found = {}
        for arm, settled in arms.items():
            found[arm], who, training = _trained(settled, prepared, root / f"{arm}-{share}")
            say(console, f"{asked.pair} {share} {arm}: NDCG {found[arm].mean():.4f}")
        difference = (found["transfer"] - found["scratch"]).mean(axis=0)
        interval = bootstrap_mean(difference, RESAMPLES, CONFIDENCE, np.random.default_rng(seed))
        say(console, f"{asked.pair} {share}: {interval}")
        curve[str(share)] = {
            "training_users": training,
            "users": len(difference),
            "user_ids": who,
            "differences": np.round(difference, 6).astype(float).tolist(),
            **{arm: float(values.mean()) for arm, values in found.items()},
            "by_shots": {arm: values.mean(axis=1).tolist() for arm, values in found.items()},
            "paired": asdict(interval),
        }
    return curve


def _trained(config: RunConfig, prepared: Path, out: Path) -> tuple[FloatArray, list[str], int]:
    """Train a teacher and its head on a part of a log.

    Returns NDCG@10 of test users, (shots, user), who they are, and how many users trained.
    """
    inputs = {"prepare": prepared}
    for page in (pretrain, metatrain):
        folder = out / page.STEP.name
        folder.mkdir(parents=True, exist_ok=True)
        settle_chance(config, page.STEP.name)
        page.run(StepContext(config=config, out=folder, inputs=inputs))
        inputs = {**inputs, page.STEP.name: folder}
    context = StepContext(config=config, out=out, inputs=inputs)
    log = open_prepared(prepared)
    network = load_teacher(inputs["metatrain"], config.pretrain.temperature).eval()
    head = load_head(inputs["metatrain"] / "head.safetensors").eval()
    evaluate = config.evaluate
    cases = test_cases(context, log)
    curve = kshot_curve(
        network,
        table_of(network, head),
        head.prior,
        cases,
        evaluate.shots,
        evaluate.cutoff,
        config.pretrain.discount,
    )
    names = pq.read_table(log.root / "users.parquet", columns=[c.USER_ID])[c.USER_ID].to_pylist()
    who = [str(names[user]) for user in log.history_user[cases.history].tolist()]
    return curve.adapted, who, int((np.asarray(log.history_train_end) > 0).sum())


def _part(whole: Path, out: Path, share: float, seed: int) -> Path:
    """Write a prepared log in which only a share of the training histories trains."""
    log = open_prepared(whole)
    training = np.flatnonzero(np.asarray(log.history_train_end) > 0)
    kept = numpy_generator(seed, "share").permutation(training)[: round(share * len(training))]
    end = np.zeros(len(log.history_train_end), np.int64)
    end[kept] = log.history_train_end[kept]
    (out / "arrays").mkdir(parents=True, exist_ok=True)
    for name in ("prepared.json", "items.parquet", "users.parquet"):
        _linked(whole / name, out / name)
    for path in (whole / "arrays").glob("*.npy"):
        if path.stem != "history_train_end":
            _linked(path, out / "arrays" / path.name)
    np.save(out / "arrays" / "history_train_end.npy", end)
    return out


def _linked(path: Path, other: Path) -> None:
    other.unlink(missing_ok=True)
    os.link(path, other)


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


if __name__ == "__main__":
    run_command(main)
