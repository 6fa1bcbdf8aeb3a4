"""Gates: whether these logs can say anything about this policy. A failed gate takes the number away.

Effective sample size alone lies: where a policy's favourites were never shown, the weights of what was shown are small
and even, and it is near 100 %. Their mean is not 1, and that is tested first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import stats

from recsys.evaluation.ope.clustered import clustered_interval, standard_errors
from recsys.evaluation.ope.sums import Sums
from recsys.types import LongArray, RealArray

Verdict = Literal["pass", "warn", "fail"]
_IMMATERIAL: Final = (
    1e-4  # of a mean weight: less than that is rounding, and moves no value that anybody would see
)

_CLOSER: Final = (
    "let what logs explore more, or the policy stay closer to it"  # remedy of what is hardly shown
)


@dataclass(frozen=True)
class Gate:
    """One question asked of the log."""

    name: str
    verdict: Verdict
    value: float | None  # what was measured
    bound: str  # what it is held to
    says: str  # a sentence for people


@dataclass(frozen=True)
class GateBounds:
    """What gates hold logs to."""

    mean_weight_z: float = 3.0  # |z| of the mean weight against 1
    mean_weight_warn: float = 2.0
    missing_support: float = 0.05  # share of the policy's choices that the log could not show
    effective: float = 100.0  # effective sample size, in rounds
    effective_share: float = 0.01  # of the rounds; below it, a warning
    largest_share: float = 0.1  # of the sum of the weights
    calibration_z: float = 4.0  # worst bin of the propensities, before Bonferroni over bins
    drift: float = 0.25  # population stability index of what was shown
    floor_shift: float = 1.0  # change by a propensity floor, in half widths of the interval


def weight_gates(sums: Sums, policy: int, bounds: GateBounds | None = None) -> list[Gate]:
    """Return what the importance weights of one policy say: their mean, effective size, largest share.

    The z-score is clustered. A log without a single match has a mean weight of 0 and fails, though its z is undefined.
    """
    bounds = bounds or GateBounds()
    summary = sums.weights[policy]
    spread = _control_error(sums, policy)
    gap = summary.mean - 1.0
    exact = abs(gap) < _IMMATERIAL
    z = 0.0 if exact else gap / spread if spread > 0 else np.copysign(np.inf, gap)
    missing = max(0.0, -(gap + 2.0 * spread)) if np.isfinite(spread) else 0.0
    low_mean = summary.mean <= 0.0 or abs(z) > bounds.mean_weight_z
    few, heavy = summary.effective < bounds.effective, summary.largest_share > bounds.largest_share
    return [
        Gate(
            "mean weight",
            "fail" if low_mean else "warn" if abs(z) > bounds.mean_weight_warn else "pass",
            float(z) if np.isfinite(z) else None,
            f"|z| ≤ {bounds.mean_weight_z:g}",
            f"the mean importance weight is {summary.mean:.3g}, must be 1 within chance, |z| ≤ "
            f"{bounds.mean_weight_z:g} (z = {z:.1f}): " + _about_the_mean(gap, low_mean),
        ),
        Gate(
            "support",
            "fail" if missing > bounds.missing_support else "pass",
            missing,
            f"≤ {bounds.missing_support:.0%}",
            f"at least {missing:.1%} of what the policy would show could not have been logged"
            + (
                f", must be at most {bounds.missing_support:.0%}: {_CLOSER}"
                if missing > bounds.missing_support
                else ""
            )
            if missing > 0
            else "no sign that the policy shows what could not have been logged",
        ),
        Gate(
            "effective sample size",
            "fail"
            if few
            else "warn"
            if summary.effective < bounds.effective_share * summary.rounds
            else "pass",
            summary.effective,
            f"≥ {bounds.effective:g}",
            f"{summary.rounds:,} rounds are worth {summary.effective:,.0f} of the policy's own "
            f"({summary.effective / max(summary.rounds, 1):.1%})"
            + (
                f", must be worth at least {bounds.effective:g}: wait for more lists, or {_CLOSER}"
                if few
                else ""
            ),
        ),
        Gate(
            "largest weight",
            "fail" if heavy else "pass",
            summary.largest_share,
            f"≤ {bounds.largest_share:.0%}",
            f"one round carries {summary.largest_share:.1%} of all weight (weight {summary.largest:,.3g})"
            + (
                f", must be at most {bounds.largest_share:.0%}: wait for more lists, or {_CLOSER}"
                if heavy
                else ""
            ),
        ),
    ]


def _about_the_mean(gap: float, failed: bool) -> str:
    if not failed:
        return "as it should be"
    if gap < 0:
        return f"the policy shows what the log never could, or propensities are wrong; {_CLOSER}"
    return "logged propensities are too small, or wrong; mend what logs them"


def _control_error(sums: Sums, policy: int) -> float:
    """Return the clustered standard error of the mean weight."""
    control = sums.control[:, policy]
    centred = control - control.sum() / sums.count.sum() * sums.count
    number = len(sums)
    scale = number / (number - 1.0) if number > 1 else np.inf
    return float(np.sqrt(scale * (centred**2).sum()) / sums.count.sum())


def exact_support(behaviour: RealArray, evaluation: RealArray, bounds: GateBounds | None = None) -> Gate:
    """Return the policy's mass on actions that the log's policy never shows, from whole distributions (round,
    action).
    """
    bounds = bounds or GateBounds()
    missing = float(np.where(behaviour > 0, 0.0, evaluation).sum(axis=1).mean())
    return Gate(
        "support",
        "fail" if missing > bounds.missing_support else "warn" if missing > 0 else "pass",
        missing,
        f"≤ {bounds.missing_support:.0%}",
        f"{missing:.1%} of what the policy shows has propensity 0 in the log",
    )


def calibration_gate(
    propensity: RealArray,  # (round,)
    candidates: RealArray | None = None,  # (round,) how many actions could have been shown
    table: RealArray | None = None,  # (round, action), whole distributions where they are known
    action: LongArray | None = None,
    bounds: GateBounds | None = None,
) -> Gate:
    """Return whether propensities are the frequencies they claim to be.

    With whole distributions: in bins of π_0 over all pairs of round and action, how often was it that action? With the
    logged ones alone: E[1 / π_0(a | x)] is the number of actions with support, by definition.
    """
    bounds = bounds or GateBounds()
    if table is not None and action is not None:
        gaps = binned_calibration(table, action)
        z = max((abs(row.z) for row in gaps), default=0.0)
        allowed = float(stats.norm.isf(stats.norm.sf(bounds.calibration_z) / max(len(gaps), 1)))
        worst = max(gaps, key=lambda row: abs(row.z), default=None)
        said = (
            f"where {worst.claimed:.3g} is claimed {worst.seen:.3g} is seen (z = {worst.z:.1f})"
            if worst
            else "no propensities"
        )
        return Gate(
            "propensity calibration", "fail" if z > allowed else "pass", z, f"|z| ≤ {allowed:.2g}", said
        )
    if candidates is None:
        return Gate(
            "propensity calibration",
            "warn",
            None,
            "known candidates",
            "unknown: the log names neither whole distributions nor how many candidates there were",
        )
    ratio = 1.0 / (propensity * candidates)
    error = float(ratio.std(ddof=1) / np.sqrt(len(ratio))) if len(ratio) > 1 else np.inf
    z = float((ratio.mean() - 1.0) / error) if error > 0 else 0.0
    # a catalogue that is not shown whole has a mean below 1; a heavy tail hides in the error: only excess is proof
    return Gate(
        "propensity calibration",
        "fail" if z > bounds.calibration_z else "pass",
        z,
        f"z ≤ {bounds.calibration_z:g}",
        f"1 / propensity averages {ratio.mean():.3g} times the number of candidates, must not exceed 1 beyond "
        f"chance, z ≤ {bounds.calibration_z:g} (z = {z:.1f})"
        + ("; mend the propensities that are logged" if z > bounds.calibration_z else ""),
    )


@dataclass(frozen=True)
class CalibrationBin:
    """Pairs of round and action whose claimed probability is alike."""

    claimed: float
    seen: float
    pairs: int
    z: float


def binned_calibration(table: RealArray, action: LongArray, bins: int = 10) -> list[CalibrationBin]:
    """Return claimed and seen frequency by bins of equal claimed mass, the standard error from Σ p (1 − p)."""
    claimed = table.ravel()
    taken = np.zeros(table.shape, bool)
    taken[np.arange(len(action)), action] = True
    order = np.argsort(claimed)
    mass = np.cumsum(claimed[order])
    edges = np.searchsorted(mass, np.linspace(0.0, mass[-1], bins + 1)[1:-1])
    rows = []
    for part in np.split(order, np.unique(edges)):
        if not len(part):
            continue
        expected = float(claimed[part].sum())
        variance = float((claimed[part] * (1.0 - claimed[part])).sum())
        got = float(taken.ravel()[part].sum())
        z = (got - expected) / np.sqrt(variance) if variance > 0 else 0.0 if got == expected else np.inf
        rows.append(CalibrationBin(expected / len(part), got / len(part), len(part), float(z)))
    return rows


def drift_gate(
    early: Sequence[float] | RealArray,
    late: Sequence[float] | RealArray,
    what: str = "what was shown",
    bounds: GateBounds | None = None,
) -> Gate:
    """Return whether two periods differ, by the population stability index Σ (p − q) log(p / q) of counts by category.

    Two samples of one distribution differ by chance by (categories − 1)(1/n + 1/m) on average: that is subtracted.
    """
    bounds = bounds or GateBounds()
    first, second = np.asarray(early, np.float64), np.asarray(late, np.float64)
    seen = (first + second) > 0
    p = (first[seen] + 0.5) / (first[seen] + 0.5).sum() if seen.any() else np.ones(1)
    q = (second[seen] + 0.5) / (second[seen] + 0.5).sum() if seen.any() else np.ones(1)
    chance = (int(seen.sum()) - 1) * (1.0 / max(first.sum(), 1.0) + 1.0 / max(second.sum(), 1.0))
    index = max(0.0, float(((p - q) * np.log(p / q)).sum()) - chance)
    return Gate(
        f"drift of {what}",
        "warn" if index > bounds.drift else "pass",
        index,
        f"≤ {bounds.drift:g}",
        f"from the first to the last part of the log {what} has shifted by {index:.2f} (stability index beyond chance)",
    )


def floor_gate(
    sums: Sums,
    column: str,
    floored: Mapping[float, str],
    confidence: float = 0.95,
    bounds: GateBounds | None = None,
) -> Gate:
    """Return how far the estimate moves when propensities are raised to floors, in half widths of its interval."""
    bounds = bounds or GateBounds()
    interval = clustered_interval(sums, {column: 1.0}, confidence)
    half = max((interval.high - interval.low) / 2.0, 1e-12)
    values = sums.estimates()
    moved = {floor: abs(values[sums.column(name)] - interval.mean) / half for floor, name in floored.items()}
    worst = max(moved, key=lambda floor: moved[floor], default=None)
    shift = moved[worst] if worst is not None else 0.0
    return Gate(
        "propensity floor",
        "warn" if shift > bounds.floor_shift else "pass",
        float(shift),
        f"≤ {bounds.floor_shift:g} half widths",
        f"raising propensities to at least {worst:g} moves the estimate by {shift:.2f} half widths of its interval"
        if worst is not None
        else "no propensity is below the floors tried",
    )


def agreement_gate(sums: Sums, columns: Sequence[str], bounds_z: float = 4.0) -> Gate:
    """Return whether estimators agree within the error of their paired differences; DM alone is never asked."""
    values, worst, pair = sums.estimates(), 0.0, ""
    for place, name in enumerate(columns):
        for other in columns[:place]:
            error = float(standard_errors(sums, {name: 1.0, other: -1.0})[0])
            gap = abs(values[sums.column(name)] - values[sums.column(other)])
            z = gap / error if error > 1e-12 else 0.0
            if z > worst:
                worst, pair = float(z), f"{name} and {other}"
    return Gate(
        "agreement of estimators",
        "warn" if worst > bounds_z else "pass",
        worst,
        f"z ≤ {bounds_z:g}",
        f"{pair} differ by {worst:.1f} standard errors of their difference" if pair else "all agree",
    )


def refused(gates: Sequence[Gate]) -> bool:
    """Say whether a gate takes the number away."""
    return any(gate.verdict == "fail" for gate in gates)
