"""Do intervals tell the truth? Coverage and width on bandits with a known value, thousands of logs for each cell.

    python -m pipelines.experiments.coverage --logs 2000 --out coverage.json --table coverage.md

A cell is a kind of log; its row says how often each 95 % interval held the truth, how wide it was, and how many of the
logs the gates refused. What counts is coverage among the logs that were not refused.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.experiments.command import run_command
from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.clustered import bootstrap_intervals, clustered_intervals
from recsys.evaluation.ope.estimators import Estimator, doubly_robust, ips, snips
from recsys.evaluation.ope.gates import refused, weight_gates
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.synthetic import SyntheticBandit, synthetic_bandit
from recsys.randomness import numpy_generator

ESTIMATORS: dict[str, Estimator] = {"ips": ips, "snips": snips, "dr": doubly_robust}
BOOTSTRAP = 200
MOST_RESAMPLED = 1000  # rounds; with more the sandwich says the same


@dataclass(frozen=True)
class Cell:
    """One kind of log."""

    name: str
    rounds: int = 1000
    actions: int = 20
    overlap: float = 0.8
    sharp: float = 0.5  # of the logging policy
    rate: float = 0.05
    noise: float = 0.0
    deterministic: bool = False
    unsupported: float = 0.0
    per_cluster: int = 1
    mood: float = 0.0
    compared: bool = False  # the difference to the logging policy instead of the value

    def bandit(self) -> SyntheticBandit:
        """Return the cell's world."""
        given = asdict(self)
        kept = ("actions", "rate", "noise", "deterministic", "unsupported", "per_cluster", "mood", "sharp")
        return synthetic_bandit(self.overlap, **{name: given[name] for name in kept})


BASE = (
    Cell("good overlap", overlap=0.81),
    Cell("moderate overlap", overlap=0.27),
    Cell("poor overlap", overlap=0.023, sharp=1.2),
)
CELLS = (
    *BASE,
    *[replace(cell, name=f"{cell.name}, 200 rounds", rounds=200) for cell in BASE],
    *[replace(cell, name=f"{cell.name}, 5 000 rounds", rounds=5000) for cell in BASE],
    *[replace(cell, name=f"{cell.name}, 20 000 rounds", rounds=20_000) for cell in BASE],
    *[replace(cell, name=f"{cell.name}, rate .3", rate=0.3) for cell in BASE],
    *[replace(cell, name=f"{cell.name}, continuous", rate=0.5, noise=0.2) for cell in BASE],
    Cell("2 actions", actions=2, overlap=0.7),
    Cell("1 000 actions, good overlap", actions=1000, overlap=0.81),
    Cell("1 000 actions, moderate overlap", actions=1000, overlap=0.27),
    Cell("1 000 actions, moderate, 20 000 rounds", actions=1000, overlap=0.27, rounds=20_000),
    Cell("deterministic, 2 actions", actions=2, deterministic=True),
    Cell("deterministic, 20 actions", deterministic=True),
    Cell("deterministic, 1 000 actions", actions=1000, deterministic=True, rounds=5000),
    Cell("no support for a tenth", unsupported=0.1),
    Cell("no support for half", unsupported=0.5),
    Cell("no support for 97 % of 1 000", actions=1000, unsupported=0.97),
    Cell(
        "users of 10 rounds with a mood",
        overlap=0.27,
        rate=0.5,
        noise=0.2,
        per_cluster=10,
        mood=0.2,
        rounds=2000,
    ),
    *[replace(cell, name=f"difference to the log, {cell.name}", compared=True, rate=0.3) for cell in BASE],
)


def study(cell: Cell, logs: int, seed: int) -> dict[str, Any]:
    """Return coverage and mean width of every interval, refusals, and bias in standard errors."""
    world = cell.bandit()
    truth = world.truth - (world.logged_truth if cell.compared else 0.0)
    generator = numpy_generator(seed, f"coverage {cell.name}")
    # rewards are clicks, or a continuous measure whose range is known to whoever defined it
    span = (0.0, 1.0) if not cell.noise else (-1.0, 2.0)
    inside: dict[str, list[bool]] = {}
    width: dict[str, list[float]] = {}
    values: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    said: list[bool] = []
    for _ in range(logs):
        rounds = world.log(cell.rounds, generator)
        sums = sum_rounds(rounds, ESTIMATORS)
        said.append(not refused(weight_gates(sums, 0)))
        for name in ESTIMATORS:
            values[name].append(float(sums.estimates()[sums.column(name)]))
        for name, got in intervals_of(sums, span, generator, compared=cell.compared).items():
            inside.setdefault(name, []).append(bool(got.low <= truth <= got.high))
            width.setdefault(name, []).append(got.high - got.low)
    kept = np.array(said)
    return {
        "cell": cell.name,
        "rounds": cell.rounds,
        "actions": cell.actions,
        "overlap": world.overlap,
        "truth": truth,
        "refused": float(1.0 - kept.mean()),
        "coverage": {name: float(np.mean(held)) for name, held in inside.items()},
        "coverage_unrefused": {
            name: float(np.array(held)[kept].mean()) if kept.any() else None for name, held in inside.items()
        },
        "width": {name: float(np.mean(each)) for name, each in width.items()},
        "bias_z": {
            name: float((np.nanmean(v) - world.truth) / (np.nanstd(v) / np.sqrt(logs) + 1e-300))
            for name, v in values.items()
        },
        "logs": logs,
    }


def intervals_of(
    sums: Any, span: tuple[float, float], generator: np.random.Generator, *, compared: bool
) -> dict[str, Interval]:
    """Return the intervals that are compared, of the value or of the difference to the log."""
    against = {"logging": -1.0} if compared else {}
    found = {
        "likelihood, w_max known": likelihood_interval(sums, {"snips": 1.0, **against}, reward_range=span),
        "likelihood, w_max unknown": likelihood_interval(
            sums, {"snips": 1.0, **against}, reward_range=span, max_weight=np.inf
        ),
        "likelihood of DR": likelihood_interval(sums, {"dr": 1.0, **against}, reward_range=span),
    }
    if not compared:
        large = clustered_intervals(sums)
        found |= {"SNIPS, sandwich": large["snips"], "DR, sandwich": large["dr"]}
        if sums.rounds <= MOST_RESAMPLED:
            found["SNIPS, bootstrap"] = bootstrap_intervals(sums, BOOTSTRAP, generator)["snips"]
    return found


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown: coverage / mean width."""
    names = ["likelihood, w_max known", "likelihood, w_max unknown", "likelihood of DR", "SNIPS, sandwich",
             "DR, sandwich", "SNIPS, bootstrap"]  # fmt: skip
    lines = ["| log | refused | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [f"{row['cell']} (n = {row['rounds']:,}, ESS {row['overlap']:.1%})", f"{row['refused']:.0%}"]
        for name in names:
            share = row["coverage_unrefused"].get(name) if row["refused"] < 0.5 else row["coverage"].get(name)
            text = (
                "" if share is None or name not in row["width"] else f"{share:.3f} / {row['width'][name]:.3f}"
            )
            cells.append(f"({text})" if text and row["refused"] >= 0.5 else text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default="", help="cells whose names contain this")
    parser.add_argument("--first", type=int, default=0, help="number of the cell to begin with")
    parser.add_argument("--out", type=Path, default=Path("coverage.json"))
    parser.add_argument("--table", type=Path, default=None)
    given = parser.parse_args()
    rows = []
    for number, cell in enumerate(CELLS):
        if given.only in cell.name and number >= given.first:
            rows.append(study(cell, given.logs, given.seed))
            print(as_table(rows[-1:]).splitlines()[-1], flush=True)
    given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if given.table is not None:
        given.table.write_text(as_table(rows), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
