"""Where to clip, switch or shrink, read from the data: SLOPE and the least estimated squared error.

All candidates are columns of one pass over the log; choosing among them needs no second one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from recsys.errors import UserError
from recsys.evaluation.ope.clustered import standard_errors
from recsys.evaluation.ope.estimators import ClippedIPS, Estimator, OptimisticShrinkageDR, SwitchDR
from recsys.evaluation.ope.rounds import Rounds
from recsys.evaluation.ope.sums import Sums
from recsys.types import RealArray

CLIPPING: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
SHRINKAGE: Final = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
_SLOPE = np.sqrt(6.0) - 1.0  # Tucker & Lee (2021), SLOPE++


@dataclass(frozen=True)
class Chosen:
    """The candidate that was chosen."""

    name: str
    value: float
    standard_error: float


def candidates(family: str, values: Sequence[float] | None = None) -> dict[str, Estimator]:
    """Return one estimator for each setting of a family, "clipped", "switch" or "dros"; names end in the setting."""
    makers: dict[str, type[ClippedIPS] | type[SwitchDR] | type[OptimisticShrinkageDR]] = {
        "clipped": ClippedIPS,
        "switch": SwitchDR,
        "dros": OptimisticShrinkageDR,
    }
    if family not in makers:
        raise UserError(f"family is {family!r}, must be one of {', '.join(makers)}; choose one of them")
    given = values or (SHRINKAGE if family == "dros" else CLIPPING)
    return {f"{family}({value:g})": makers[family](value) for value in sorted(given)}


def quantile_thresholds(
    rounds: Rounds, shares: Sequence[float] = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
) -> list[float]:
    """Return quantiles of the positive weights of some rounds, candidates that fit the log at hand."""
    positive = rounds.weight[rounds.weight > 0]
    return sorted({float(value) for value in np.quantile(positive, shares)}) if len(positive) else [1.0]


def slope(sums: Sums, names: Sequence[str], confidence: float = 0.95) -> Chosen:
    """Return the candidate that SLOPE picks; `names` from the least clipped (least bias) to the most.

    The last candidate i with |θ_i − θ_j| ≤ c_i + (√6 − 1) c_j for all j before it, c the half widths of intervals. Su,
    Srinath & Krishnamurthy (2020); Tucker & Lee (2021).
    """
    places = [sums.column(name) for name in names]
    values = sums.estimates()[places]
    errors = standard_errors(sums)[places]
    half = float(stats.norm.isf((1.0 - confidence) / 2.0)) * errors
    best = 0
    for place in range(1, len(places)):
        gap = np.abs(values[place] - values[:place])
        if (gap > half[place] + _SLOPE * half[:place] + 1e-15).any():
            break
        best = place
    return Chosen(names[best], float(values[best]), float(errors[best]))


def least_error(sums: Sums, names: Sequence[str], unbiased: str) -> Chosen:
    """Return the candidate with the least estimated squared error: variance + max(0, gap² − variance of the gap).

    The gap is the paired difference to an unbiased column: its square overstates the squared bias by its own variance.
    Bounding the bias by gap + z · error instead, as Wang, Agarwal & Dudík (2017) do, never clips where that is worth
    most: there the error of the gap is that of the unbiased column itself (measured; docs/experiments.md).
    """
    reference = sums.column(unbiased)
    places = [sums.column(name) for name in names]
    influence = sums.influence()
    number = len(sums)
    scale = number / max(number - 1.0, 1.0)
    values: RealArray = sums.estimates()
    variance = scale * (influence[:, places] ** 2).sum(axis=0)
    apart = scale * ((influence[:, places] - influence[:, [reference]]) ** 2).sum(axis=0)
    bias = np.maximum((values[places] - values[reference]) ** 2 - apart, 0.0)
    best = int(np.argmin(variance + bias))
    return Chosen(names[best], float(values[places[best]]), float(np.sqrt(variance[best])))
