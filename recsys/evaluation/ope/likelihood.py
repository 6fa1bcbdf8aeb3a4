"""Cressie-Read (Euclidean likelihood) intervals of policy values and of their differences.

Among all reweightings q of the clusters under which importance weights have mean 1, as they must, the interval holds
the values of those that the data do not contradict:

    { Σ q m / Σ q n :  Σ q = 1,  Σ q c = 0,  ½ Σ (N q − 1)² ≤ ρ }

m the numerator of a cluster, n its rounds, c = Σ (w − 1) its control, one for each policy. One more cluster, the
corner, holds the largest weight and the extreme reward that the log might have missed; every corner is tried and the
widest bound wins. Karampatziakis, Langford & Mineiro, "Empirical likelihood for contextual bandits" (2020). With
rounds as clusters and one policy this is the estimator of that paper; clusters and differences make it a quadratic in
the value (Fieller), solved here in closed form from the cross products of (1, m, n, c).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.sums import Sums
from recsys.types import RealArray

_FLAT = 1e-12  # variance of a control below this, relative to its square, is none


@dataclass(frozen=True)
class Corners:
    """Clusters that the log might have missed."""

    lowest: RealArray  # (corner,) numerator with the reward that makes it least: for the lower bound
    highest: RealArray  # (corner,) … and greatest
    count: RealArray  # (corner,)
    control: RealArray  # (corner, policy)
    reference: (
        int  # the corner that the data ask for: the largest weight where weights fell short of 1, else none
    )


def likelihood_interval(
    sums: Sums,
    columns: Mapping[str, float],
    confidence: float = 0.95,
    reward_range: tuple[float, float] | None = None,
    max_weight: float | None = None,
) -> Interval:
    """Return the interval of Σ coefficient · value over some columns, a difference for {"a/dr": 1, "b/dr": −1}.

    Self-normalised columns are read as their unnormalised forms: the constraint on the weights normalises. Without a
    `reward_range` the rewards seen are taken for all there can be. Where the largest weight is not known the interval
    of a value takes it for infinite, which is wider; that of a difference, which would lose what its columns share,
    takes it for 1 / the least propensity seen.
    """
    places = {sums.column(name): coefficient for name, coefficient in columns.items()}
    estimate = float(sum(c * sums.estimates()[place] for place, c in places.items()))
    rewards = reward_range or sums.reward_range
    spans = [_residuals(sums, place, rewards) for place in places]
    most = {
        policy: _largest(sums, policy, alone=len(places) == 1) if max_weight is None else max_weight
        for place in places
        if (policy := sums.policy_of(place)) is not None and sums.kinds[place] != "other"
    }
    if [sums.kinds[place] for place in places] == ["other"]:
        (place,) = places  # a ratio of its own, such as replay: no weights to constrain
        count = sums.denominator[:, place]
        corners = Corners(
            np.array(rewards[:1]), np.array(rewards[1:]), np.ones(1), np.zeros((1, 0)), reference=0
        )
        low, high = _bounds(sums.numerator[:, place], count, np.zeros((len(sums), 0)), corners, confidence)
    else:
        numerator = np.zeros(len(sums))
        for place, coefficient in places.items():
            numerator += coefficient * (sums.base[:, place] + sums.numerator[:, place])
        policies = sorted(most)
        endless = any(np.isinf(bound) for bound in most.values())
        corners = _corners(sums, places, spans, dict.fromkeys(most, 0.0) if endless else most, policies)
        control = sums.control[:, policies]
        short = bool((control.sum(axis=0) < 0.0).any())
        missed = 1.0 + 1.0 / len(sums) if endless else np.inf  # cost of a cluster whose share is 0
        low, high = _bounds(
            numerator, sums.count, control, corners, confidence, missed if endless and short else None
        )
        if endless:
            cost = missed if short else _cost(numerator, sums.count, control, corners)
            budget = _threshold(sums, confidence) + cost - missed
            ends = _unbounded(sums, places, spans, budget)
            low, high = min(low, ends[0]), max(high, ends[1])
    least = sum(min(c * rewards[0], c * rewards[1]) for c in places.values())
    highest = sum(max(c * rewards[0], c * rewards[1]) for c in places.values())
    low, high = max(low, least), min(high, highest)
    return Interval(estimate, float(min(low, high)), float(max(low, high)))


def _largest(sums: Sums, policy: int, *, alone: bool) -> float:
    """Return the largest weight that a policy can have, as far as is known."""
    known = sums.max_weight[policy]
    return known if alone or np.isfinite(known) else 1.0 / sums.least_propensity


def _residuals(sums: Sums, place: int, rewards: tuple[float, float]) -> tuple[float, float]:
    """Return the least and greatest reward, or residual of the model, that one round can have."""
    policy = sums.policy_of(place)
    if policy is None or not sums.base[:, place].any():
        return rewards
    low, high = sums.residual_range[policy]
    return low + rewards[0] - sums.reward_range[0], high + rewards[1] - sums.reward_range[1]


def _corners(
    sums: Sums,
    places: Mapping[int, float],
    spans: list[tuple[float, float]],
    most: Mapping[int, float],
    policies: list[int],
) -> Corners:
    """Return an average cluster with one round replaced: weights 0 or largest, the reward least or greatest."""
    size = float(sums.count.mean())
    combinations = list(product(*[(0.0, most[policy]) for policy in policies]))
    numerators = np.zeros((2, len(combinations)))  # (least or greatest reward, corner)
    for corner, weights in enumerate(combinations):
        weight_of = dict(zip(policies, weights, strict=True))
        for (place, coefficient), span in zip(places.items(), spans, strict=True):
            policy = sums.policy_of(place)
            weight = 1.0 if policy is None else weight_of[policy]
            base = float(sums.base[:, place].sum() / sums.count.sum())
            rest = float(sums.numerator[:, place].sum() / sums.count.sum()) + base
            numerators[:, corner] += coefficient * (base + weight * np.array(span) + rest * (size - 1.0))
    table = np.array(combinations).reshape(len(combinations), len(policies))
    wanted = [most[policy] if sums.control[:, policy].sum() < 0.0 else 0.0 for policy in policies]
    reference = int(np.argmin(np.abs(table - np.array(wanted)).sum(axis=1)))
    return Corners(
        numerators.min(axis=0), numerators.max(axis=0), np.full(len(table), size), table - 1.0, reference
    )


def _threshold(sums: Sums, confidence: float) -> float:
    return float(stats.f.isf(1.0 - confidence, 1, len(sums)))


def _cost(numerator: RealArray, count: RealArray, control: RealArray, corners: Corners) -> float:
    """Return what the constraint on the weights costs at the reference corner."""
    mean, spread, number = _moments(numerator, count, control, corners, corners.lowest)
    return float(_given_controls(mean, spread, number)[0][corners.reference])


def _moments(
    numerator: RealArray, count: RealArray, control: RealArray, corners: Corners, extreme: RealArray
) -> tuple[RealArray, RealArray, int]:
    """Return mean and covariance of (m, n, c) with each corner added, by corner, and the number of clusters.

    Under Σ q c = 0 a multiple of the control may be taken off m. As much is taken off as leaves nothing of a far
    corner: squares of weights of 1e9 would otherwise have to cancel.
    """
    rows = np.column_stack([np.ones(len(numerator)), numerator, count, control])  # (cluster, 3 + policy)
    length = (corners.control**2).sum(axis=1)
    far = length > 1.0
    share = np.where(far, extreme / np.where(far, length, 1.0), 0.0)
    left_over = np.where(far, 0.0, extreme)
    added = np.column_stack([np.ones(len(extreme)), left_over, corners.count, corners.control])
    taken = np.tile(np.eye(rows.shape[1]), (len(extreme), 1, 1))  # (corner, 3 + policy, 3 + policy)
    taken[:, 1, 3:] = -share[:, None] * corners.control
    moments = taken @ (rows.T @ rows) @ taken.transpose(0, 2, 1) + np.einsum("ki,kj->kij", added, added)
    number = len(rows) + 1
    mean = moments[:, 0, 1:] / number
    spread = moments[:, 1:, 1:] / number - np.einsum("ki,kj->kij", mean, mean)
    return mean, spread, number


def _bounds(
    numerator: RealArray,
    count: RealArray,
    control: RealArray,
    corners: Corners,
    confidence: float,
    cost: float | None = None,
) -> tuple[float, float]:
    """Return the least and greatest Σ q m / Σ q n over all corners; `cost` replaces that of the reference corner."""
    ends = []
    for side, extreme in enumerate((corners.lowest, corners.highest)):
        mean, spread, number = _moments(numerator, count, control, corners, extreme)
        forced, left_mean, left = _given_controls(mean, spread, number)
        reference = float(forced[corners.reference]) if cost is None else cost
        budget = float(stats.f.isf(1.0 - confidence, 1, len(numerator))) + reference - forced
        ends.append(_fieller(left_mean, left, number, budget)[side])
    return float(ends[0].min(initial=np.inf)), float(ends[1].max(initial=-np.inf))


def _given_controls(
    mean: RealArray, spread: RealArray, number: int
) -> tuple[RealArray, RealArray, RealArray]:
    """Return what the constraint on the controls costs, and mean and covariance of (m, n) given it; by corner."""
    controls = spread[:, 2:, 2:]
    if not controls.shape[1]:
        return np.zeros(len(mean)), mean[:, :2], spread[:, :2, :2]
    scale = np.maximum(np.einsum("kii->ki", controls), 1e-300) ** 0.5
    inverse = np.linalg.pinv(
        controls / (scale[:, :, None] * scale[:, None, :]), rcond=_FLAT, hermitian=True
    ) / (scale[:, :, None] * scale[:, None, :])
    forced = number * np.einsum("ki,kij,kj->k", mean[:, 2:], inverse, mean[:, 2:])
    slope = spread[:, :2, 2:] @ inverse  # (corner, 2, policy)
    left_mean = mean[:, :2] - np.einsum("kip,kp->ki", slope, mean[:, 2:])
    left = spread[:, :2, :2] - slope @ spread[:, 2:, :2]
    return forced, left_mean, left


def _fieller(
    mean: RealArray, spread: RealArray, number: float, budget: RealArray
) -> tuple[RealArray, RealArray]:
    """Return the roots of N (m̃ − θ ñ)² = Δ (S_mm − 2 θ S_mn + θ² S_nn), (corner,) each; no bound where it has none."""
    allowed = budget >= 0.0
    budget = np.maximum(budget, 0.0)
    a = number * mean[:, 1] ** 2 - budget * spread[:, 1, 1]
    b = number * mean[:, 0] * mean[:, 1] - budget * spread[:, 0, 1]
    c = number * mean[:, 0] ** 2 - budget * spread[:, 0, 0]
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    bounded = a > 0.0
    a = np.where(bounded, a, 1.0)
    low = np.where(bounded, (b - root) / a, -np.inf)
    high = np.where(bounded, (b + root) / a, np.inf)
    return np.where(allowed, low, np.inf), np.where(allowed, high, -np.inf)


def _unbounded(
    sums: Sums, places: Mapping[int, float], spans: list[tuple[float, float]], budget: float
) -> tuple[float, float]:
    """Return the limits for a largest weight of infinity.

    A missed weight without bound makes the constraint void, and has the extreme reward: bounds are those of the means
    of w (r − r_min) + r_min from below and of w (r − r_max) + r_max from above.
    """
    ends: list[float] = []
    for side in (0, 1):
        numerator = np.zeros(len(sums))
        for (place, coefficient), span in zip(places.items(), spans, strict=True):
            policy = sums.policy_of(place)
            numerator += coefficient * (sums.base[:, place] + sums.numerator[:, place])
            if policy is not None:
                end = span[side if coefficient > 0 else 1 - side]
                numerator -= coefficient * end * sums.control[:, policy]
        rows = np.column_stack([numerator, sums.count])
        mean, spread = rows.mean(axis=0)[None], np.cov(rows.T, bias=True).reshape(1, 2, 2)
        # the missed cluster has a share of 0, which costs what it costs whatever the bound
        number = (len(sums) + 1.0) ** 2 / len(sums)
        ends.append(float(_fieller(mean, spread, number, np.array([budget]))[side][0]))
    return ends[0], ends[1]
