"""Intervals without large samples: the empirical Bernstein bound, and confidence sequences that may be read daily."""

from dataclasses import dataclass

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.intervals import Interval
from recsys.types import RealArray


def empirical_bernstein(values: RealArray, low: float, high: float, confidence: float = 0.95) -> Interval:
    """Return mean ± √(2 s² log(4/α) / n) + 7 (high − low) log(4/α) / (3 (n − 1)); `values` are independent, (round,).

    Holds for every n, both ends together. Maurer & Pontil (2009), theorem 4, each end at α / 2. Raises UserError if a
    value lies outside its bounds.
    """
    number = len(values)
    if number < 2:
        return Interval(float(values.mean()) if number else float("nan"), low, high)
    if values.min() < low - 1e-9 or values.max() > high + 1e-9:
        raise UserError(
            f"values reach from {values.min():g} to {values.max():g}, must lie in {low:g} to {high:g}; widen the bounds"
        )
    log = np.log(4.0 / (1.0 - confidence))
    half = np.sqrt(2.0 * values.var(ddof=1) * log / number) + 7.0 * (high - low) * log / (3.0 * (number - 1))
    mean = float(values.mean())
    return Interval(mean, max(low, mean - float(half)), min(high, mean + float(half)))


@dataclass(frozen=True)
class ConfidenceSequence:
    """Bounds after each round; with the stated confidence all of them hold at once. Arrays of shape (round,)."""

    mean: RealArray
    low: RealArray
    high: RealArray


def confidence_sequence(
    weight: RealArray,
    reward: RealArray,
    reward_range: tuple[float, float] = (0.0, 1.0),
    confidence: float = 0.95,
) -> ConfidenceSequence:
    """Return anytime-valid bounds of the mean value of a policy over the rounds so far, (round,) in time order.

    Needs E[w | past] = 1 and rewards within their range; no bound on the weights and no independence: the policy that
    logs may learn. From below by the empirical Bernstein supermartingale of w r ≥ 0 with predictable bets, from above
    by that of w (1 − r), rewards mapped to 0 … 1. Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro (2022).
    """
    low, high = reward_range
    if len(reward) and (reward.min() < low - 1e-9 or reward.max() > high + 1e-9):
        raise UserError(
            f"rewards reach from {reward.min():g} to {reward.max():g}, must lie in {low:g} to {high:g}; widen the range"
        )
    unit = (reward - low) / (high - low)
    found = sequence_of_gains(weight * unit, weight * (1.0 - unit), confidence)
    scale = high - low
    return ConfidenceSequence(low + scale * found.mean, low + scale * found.low, low + scale * found.high)


def sequence_of_gains(gain: RealArray, rest: RealArray, confidence: float = 0.95) -> ConfidenceSequence:
    """Return bounds of the running mean of E[gain | past]; gains and rests ≥ 0, E[gain + rest] = 1; (round,)."""
    tail = (1.0 - confidence) / 2.0
    lower = np.clip(_lower_sequence(gain, tail), 0.0, 1.0)
    upper = np.clip(1.0 - _lower_sequence(rest, tail), 0.0, 1.0)
    return ConfidenceSequence(np.cumsum(gain) / np.arange(1, len(gain) + 1), lower, upper)


def _lower_sequence(gain: RealArray, alpha: float) -> RealArray:
    """Return a lower confidence sequence of the running mean of E[gain | past], for gains ≥ 0; (round,).

    L_t = (Σ λ ξ − log(1/α) − Σ (ξ − ξ̂)² ψ(λ)) / Σ λ, ψ(λ) = −log(1 − λ) − λ, with ξ̂ ≤ 1 and λ < 1 of the past alone
    (Fan, Grama & Liu 2015).
    """
    count = np.arange(1, len(gain) + 1)
    before = np.concatenate([[0.5], (0.5 + np.cumsum(gain)[:-1]) / (count[:-1] + 1.0)])[: len(gain)]
    guess = np.clip(before, 0.0, 1.0)
    deviation = (gain - guess) ** 2
    variance = np.concatenate([[0.25], (0.25 + np.cumsum(deviation)[:-1]) / (count[:-1] + 1.0)])[: len(gain)]
    bet = np.minimum(np.sqrt(2.0 * np.log(1.0 / alpha) / (variance * count * np.log1p(count))), 0.5)
    spent = np.cumsum(deviation * (-np.log1p(-bet) - bet))
    bound: RealArray = (np.cumsum(bet * gain) - np.log(1.0 / alpha) - spent) / np.cumsum(bet)
    return bound
