"""Large-sample intervals of all estimators at once: ratio-aware, clustered, paired; and the bootstrap of block sums.

A self-normalised estimate is a ratio: its error is (numerator − θ denominator) / Σ denominator, and a constant reward
leaves no doubt. Intervals that hold the denominator fixed do (docs/replay_evaluation.md).
"""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.sums import Sums, values_of
from recsys.types import RealArray

_RESAMPLED_AT_ONCE = 8_388_608  # resampling counts in memory


def standard_errors(sums: Sums, columns: Mapping[str, float] | None = None) -> RealArray:
    """Return the clustered standard error of every column, (column,), or of one combination of them, (1,).

    Sandwich of the influence functions with blocks as clusters, times B / (B − 1). Liang & Zeger (1986).
    """
    influence = sums.influence()
    if columns is not None:
        influence = influence @ coefficients(sums, columns)[:, None]
    number = len(sums)
    if number < 2:  # one cluster says nothing of how clusters differ
        return np.full(influence.shape[1], np.inf)
    errors: RealArray = np.sqrt(number / (number - 1.0) * (influence**2).sum(axis=0))
    return errors


def coefficients(sums: Sums, columns: Mapping[str, float]) -> RealArray:
    """Return the coefficient of each column, (column,)."""
    vector = np.zeros(len(sums.names))
    for name, coefficient in columns.items():
        vector[sums.column(name)] = coefficient
    return vector


def clustered_interval(sums: Sums, columns: Mapping[str, float], confidence: float = 0.95) -> Interval:
    """Return θ ± t · standard error of a combination of columns, with blocks − 1 degrees of freedom."""
    value = float(np.nansum(sums.estimates() * coefficients(sums, columns)))
    half = _quantile(sums, confidence) * float(standard_errors(sums, columns)[0])
    return Interval(value, value - half, value + half)


def clustered_intervals(sums: Sums, confidence: float = 0.95) -> dict[str, Interval]:
    """Return θ ± t · standard error of every column."""
    half = _quantile(sums, confidence) * standard_errors(sums)
    values = sums.estimates()
    return {
        name: Interval(float(v), float(v - h), float(v + h))
        for name, v, h in zip(sums.names, values, half, strict=True)
    }


def replicates(sums: Sums, resamples: int, generator: np.random.Generator) -> RealArray:
    """Return θ of every column in each resample of the clusters, (resample, column).

    Every block counts a Poisson(1) number of times, the same for all columns, so that differences of columns are
    paired; one product of counts with sums resamples everything. Oza & Russell (2001), Chamandy et al. (2012).
    """
    stacked = np.concatenate([sums.count[:, None], sums.base, sums.numerator, sums.denominator], axis=1)
    width = len(sums.names)
    out = np.empty((resamples, width))
    step = max(1, _RESAMPLED_AT_ONCE // len(sums))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        drawn = generator.poisson(1.0, (part.stop - part.start, len(sums))).astype(np.float64) @ stacked
        out[part] = values_of(
            drawn[:, :1],
            drawn[:, 1 : 1 + width],
            drawn[:, 1 + width : 1 + 2 * width],
            drawn[:, 1 + 2 * width :],
        )
    return out


def bootstrap_intervals(
    sums: Sums, resamples: int, generator: np.random.Generator, confidence: float = 0.95
) -> dict[str, Interval]:
    """Return percentile intervals of every column from the same resamples of the clusters. Efron (1979)."""
    drawn = replicates(sums, resamples, generator)
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(drawn, [tail, 1.0 - tail], axis=0)
    return {
        name: Interval(float(value), float(low[place]), float(high[place]))
        for place, (name, value) in enumerate(zip(sums.names, sums.estimates(), strict=True))
    }


def simultaneous_intervals(
    values: RealArray,  # (cell,)
    influence: RealArray,  # (block, cell)
    confidence: float,
    generator: np.random.Generator,
    resamples: int = 4000,
) -> tuple[RealArray, RealArray]:
    """Return bounds, (cell,) each, that hold for all cells at once with the stated confidence.

    The multiplier is the quantile of max |Σ ξ ψ| / s.e. over cells, ξ = ±1 (Mammen 1993; Chernozhukov et al. 2013):
    what cells share costs nothing, as it does with Bonferroni. It is at least the t quantile of one cell.
    """
    number = len(influence)
    errors = np.sqrt((influence**2).sum(axis=0) * (number / max(number - 1, 1)))
    known = errors > 0
    if not known.any():
        return values.copy(), values.copy()
    signs = generator.integers(0, 2, (resamples, number)).astype(np.float64) * 2.0 - 1.0
    largest = np.abs(signs @ influence[:, known] / errors[known]).max(axis=1)
    multiplier = max(
        float(np.quantile(largest, confidence)),
        float(stats.t.isf((1.0 - confidence) / 2.0, max(number - 1, 1))),
    )
    return values - multiplier * errors, values + multiplier * errors


def _quantile(sums: Sums, confidence: float) -> float:
    return float(stats.t.isf((1.0 - confidence) / 2.0, max(len(sums) - 1, 1)))
