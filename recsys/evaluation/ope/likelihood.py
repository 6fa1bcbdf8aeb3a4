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

    numerator: RealArray  # (corner,)
    count: RealArray  # (corner,)
    control: RealArray  # (corner, policy)


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
        corners = Corners(np.array(rewards), np.ones(2), np.zeros((2, 0)))
        low, high = _bounds(sums.numerator[:, place], count, np.zeros((len(sums), 0)), corners, confidence)
    elif any(np.isinf(bound) for bound in most.values()):
        low, high = _unbounded(sums, places, spans, confidence)
    else:
        numerator = np.zeros(len(sums))
        for place, coefficient in places.items():
            numerator += coefficient * (sums.base[:, place] + sums.numerator[:, place])
        policies = sorted(most)
        corners = _corners(sums, places, spans, most, policies)
        low, high = _bounds(numerator, sums.count, sums.control[:, policies], corners, confidence)
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
    numerators, controls = [], []
    for end, weights in product((0, 1), list(product(*[(0.0, most[policy]) for policy in policies]))):
        weight_of = dict(zip(policies, weights, strict=True))
        total = 0.0
        for (place, coefficient), span in zip(places.items(), spans, strict=True):
            policy = sums.policy_of(place)
            weight = 1.0 if policy is None else weight_of[policy]
            base = float(sums.base[:, place].sum() / sums.count.sum())
            rest = float(sums.numerator[:, place].sum() / sums.count.sum()) + base
            total += coefficient * (base + weight * span[end] + rest * (size - 1.0))
        numerators.append(total)
        controls.append([weight - 1.0 for weight in weights])
    return Corners(
        np.array(numerators),
        np.full(len(numerators), size),
        np.array(controls).reshape(len(numerators), len(policies)),
    )


def _bounds(
    numerator: RealArray, count: RealArray, control: RealArray, corners: Corners, confidence: float
) -> tuple[float, float]:
    """Return the least and greatest Σ q m / Σ q n over all corners."""
    rows = np.column_stack([np.ones(len(numerator)), numerator, count, control])  # (cluster, 3 + policy)
    added = np.column_stack(
        [np.ones(len(corners.numerator)), corners.numerator, corners.count, corners.control]
    )
    moments = rows.T @ rows + np.einsum("ki,kj->kij", added, added)  # (corner, 3 + policy, 3 + policy)
    number = len(rows) + 1
    mean = moments[:, 0, 1:] / number
    spread = moments[:, 1:, 1:] / number - np.einsum("ki,kj->kij", mean, mean)
    forced, left_mean, left = _given_controls(mean, spread, number)
    budget = float(stats.f.isf(1.0 - confidence, 1, len(rows))) + forced.min(initial=np.inf) - forced
    low, high = _fieller(left_mean, left, number, budget)
    return float(low.min(initial=np.inf)), float(high.max(initial=-np.inf))


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
    mean: RealArray, spread: RealArray, number: int, budget: RealArray
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
    sums: Sums, places: Mapping[int, float], spans: list[tuple[float, float]], confidence: float
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
                numerator -= (
                    coefficient * span[side if coefficient > 0 else 1 - side] * sums.control[:, policy]
                )
        rows = np.column_stack([numerator, sums.count])
        mean, spread = rows.mean(axis=0)[None], np.cov(rows.T, bias=True).reshape(1, 2, 2)
        budget = np.full(1, stats.f.isf(1.0 - confidence, 1, len(sums)))
        ends.append(float(_fieller(mean, spread, len(sums), budget)[side][0]))
    return ends[0], ends[1]
