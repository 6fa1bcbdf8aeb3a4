"""Intervals by bootstrap over users; differences are paired, user by user."""

from dataclasses import dataclass

import numpy as np

from recsys.types import FloatArray


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
    # multinomial counts instead of indices: one (resample, user) product, no gather
    counts = generator.multinomial(len(values), np.full(len(values), 1.0 / len(values)), size=resamples)
    means = counts @ values.astype(np.float64) / len(values)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean(dtype=np.float64)), float(low), float(high))
