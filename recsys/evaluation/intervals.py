"""Intervals by bootstrap over users; differences are paired, user by user."""

from dataclasses import dataclass

import numpy as np

from recsys.types import FloatArray

DRAWN_AT_ONCE = 2**18  # users: pieces that stay in the cache, whatever the log


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its percentile bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: FloatArray, resamples: int, confidence: float, generator: np.random.Generator
) -> Interval:
    """Return the mean over users, (user,), with its interval; no users give NaN."""
    if len(values) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    exact, users = values.astype(np.float64), len(values)
    means = np.empty(resamples)
    for some in np.array_split(means, min(resamples, 1 + resamples * users // DRAWN_AT_ONCE)):
        some[:] = exact.take(generator.integers(0, users, (len(some), users))).mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean(dtype=np.float64)), float(low), float(high))
