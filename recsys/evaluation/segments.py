"""Metrics by segment: users who share a country, a season, a number of events; with what many questions cost.

Bounds hold for all segments at once, and p-values of differences are adjusted: among twenty segments one is found at
5 % without any difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from recsys.errors import UserError
from recsys.evaluation.ope.clustered import simultaneous_intervals
from recsys.types import BoolArray, LongArray, RealArray


@dataclass(frozen=True)
class SegmentRow:
    """One segment; bounds are simultaneous over the segments of a table."""

    segment: str
    users: int
    mean: float
    low: float
    high: float
    p_value: float  # adjusted (Holm); of a mean of 0, which is of use for differences
    enough: bool  # the segment has the least number of users


def by_segment(
    values: npt.NDArray[np.floating],  # (user,), a metric or a difference of two
    segment: npt.NDArray[np.integer],  # (user,), code; −1 = none
    names: Sequence[str],
    generator: np.random.Generator,
    confidence: float = 0.95,
    least_users: int = 30,
) -> list[SegmentRow]:
    """Return the mean in every segment that has users, in the order of names."""
    if len(values) != len(segment):
        raise UserError(
            f"{len(values):,} values for {len(segment):,} users, must be as many; give one for each"
        )
    if len(segment) and int(segment.max()) >= len(names):
        raise UserError(f"segment {int(segment.max())} has no name, must be below {len(names)}; name it")
    inside = segment >= 0
    code, given = segment[inside], values[inside].astype(np.float64)
    count = np.bincount(code, minlength=len(names))
    present = np.flatnonzero(count)
    mean = np.bincount(code, given, minlength=len(names))[present] / count[present]
    place = np.searchsorted(present, code)
    influence = np.zeros((len(given), len(present)))
    influence[np.arange(len(given)), place] = (given - mean[place]) / count[present][place]
    low, high = simultaneous_intervals(mean, influence, confidence, generator)
    spread = np.sqrt(np.bincount(place, (given - mean[place]) ** 2, minlength=len(present)))
    error = spread / np.sqrt(np.maximum(count[present] * (count[present] - 1.0), 1.0))
    statistic = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    p_value = 2.0 * stats.t.sf(np.abs(statistic), np.maximum(count[present] - 1, 1))
    adjusted = holm(np.where(error > 0, p_value, np.where(mean == 0.0, 1.0, 0.0)))
    return [
        SegmentRow(
            names[number],
            int(count[number]),
            float(mean[row]),
            float(low[row]),
            float(high[row]),
            float(adjusted[row]),
            bool(count[number] >= least_users),
        )
        for row, number in enumerate(present.tolist())
    ]


def holm(p_values: RealArray) -> RealArray:
    """Return p-values of which the chance of any false one below α is at most α, (test,). Holm (1979)."""
    order = np.argsort(p_values)
    number = len(p_values)
    raised = np.maximum.accumulate(p_values[order] * (number - np.arange(number)))
    out = np.empty(number)
    out[order] = np.minimum(raised, 1.0)
    return out


def benjamini_hochberg(p_values: RealArray, rate: float = 0.05) -> BoolArray:
    """Mark discoveries of which at most a share `rate` is false on average, (test,). Benjamini & Hochberg (1995)."""
    number = len(p_values)
    order = np.argsort(p_values)
    below = np.flatnonzero(p_values[order] <= rate * (np.arange(number) + 1) / max(number, 1))
    found = np.zeros(number, bool)
    if len(below):
        found[order[: below[-1] + 1]] = True
    return found


def sign_flip_test(
    differences: npt.NDArray[np.floating], generator: np.random.Generator, flips: int = 5_000
) -> float:
    """Return the p-value of a mean difference of 0 by random signs, exact in the limit for symmetric differences.

    Fisher (1935); for metrics with few distinct values, where a t test trusts a normal shape that is not there.
    """
    given = differences.astype(np.float64)
    if not given.any():
        return 1.0
    seen = abs(float(given.sum()))
    signs = generator.integers(0, 2, (flips, len(given)), dtype=np.int8).astype(np.float64) * 2.0 - 1.0
    as_far = int((np.abs(signs @ given) >= seen - 1e-12).sum())
    return (as_far + 1.0) / (flips + 1.0)


def segments_of(values: npt.NDArray[np.generic]) -> tuple[LongArray, list[str]]:
    """Return (code of each user, names) of a column of texts or numbers."""
    names, codes = np.unique(values.astype(str), return_inverse=True)
    return codes.astype(np.int64), names.tolist()
