"""Tables behind a verdict: cohorts with simultaneous bounds, stretches of time, the weights."""

from dataclasses import dataclass

import numpy as np

from recsys.evaluation.ope.clustered import clustered_interval, simultaneous_intervals
from recsys.evaluation.ope.sums import BLOCKS, LOGGING, Sums
from recsys.evaluation.replay.comparison import Replayed, ReplayOptions
from recsys.types import RealArray


@dataclass(frozen=True)
class CohortRow:
    """The difference in one cell; bounds hold for all cells of a segment at once."""

    segment: str
    cell: str
    lists: int
    effective: float
    value: float
    difference: float
    low: float
    high: float
    enough: bool  # the cell has the least effective sample; else its figures are no evidence


@dataclass(frozen=True)
class PeriodRow:
    """One stretch of the log."""

    number: int
    lists: int
    value: float
    low: float
    high: float


def column(replayed: Replayed, policy: str, estimator: str) -> str:
    """Return the name of a column of the sums."""
    if policy == LOGGING:
        return LOGGING
    return f"{policy}/{estimator}" if len(replayed.policies) > 1 else estimator


def cohort_rows(
    replayed: Replayed,
    challenger: str,
    champion: str | None,
    headline: str,
    options: ReplayOptions,
    least: float,
) -> list[CohortRow]:
    """Return the difference to the champion, or to the log, in every cell, with simultaneous bounds by segment."""
    plus = column(replayed, challenger, headline)
    minus = column(replayed, champion or LOGGING, headline)
    rows: list[CohortRow] = []
    generator = np.random.default_rng(options.seed)
    for segment in dict.fromkeys(key[0] for key in replayed.cohorts):
        cells = {key[1]: sums for key, sums in replayed.cohorts.items() if key[0] == segment}
        value = np.array([float(s.estimates()[s.column(plus)]) for s in cells.values()])
        gap = np.array(
            [v - float(s.estimates()[s.column(minus)]) for v, s in zip(value, cells.values(), strict=True)]
        )
        influence = np.stack([_on_blocks(s, plus) - _on_blocks(s, minus) for s in cells.values()], axis=1)
        seen = influence.any(axis=1)
        low, high = simultaneous_intervals(gap, influence[seen], options.confidence, generator)
        for place, (cell, s) in enumerate(cells.items()):
            effective = min(weight.effective for weight in s.weights)
            rows.append(
                CohortRow(
                    segment,
                    cell,
                    s.rounds,
                    effective,
                    float(value[place]),
                    float(gap[place]),
                    float(low[place]),
                    float(high[place]),
                    bool(effective >= least and np.isfinite(gap[place])),
                )
            )
    return rows


def _on_blocks(sums: Sums, name: str) -> RealArray:
    """Return the influence of every block of the log, (all blocks,), 0 where a cell has none."""
    out = np.zeros(BLOCKS)
    out[sums.block] = np.nan_to_num(sums.influence()[:, sums.column(name)])
    return out


def period_rows(
    replayed: Replayed, challenger: str, headline: str, options: ReplayOptions
) -> list[PeriodRow]:
    name = column(replayed, challenger, headline)
    rows = []
    for number, sums in replayed.periods.items():
        got = clustered_interval(sums, {name: 1.0}, options.confidence)
        rows.append(PeriodRow(number, sums.rounds, got.mean, got.low, got.high))
    return rows


def histogram(weight: RealArray) -> tuple[list[float], list[int]]:
    """Return edges and counts of log10 weights; weights of 0 stand in a bin of their own at the left."""
    positive = weight[weight > 1e-6]
    low, high = (np.log10(positive.min()), np.log10(positive.max())) if len(positive) else (-1.0, 0.0)
    edges = np.linspace(low, max(high, low + 1e-6) + 1e-9, 31)
    counts = np.histogram(np.log10(positive), edges)[0] if len(positive) else np.zeros(30, np.int64)
    return [float("-inf"), *edges.tolist()], [int(len(weight) - len(positive)), *counts.tolist()]
