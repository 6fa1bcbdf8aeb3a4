"""Estimators of a policy's mean reward per round from another policy's log, a function or a small class each.

Symbols: w = π(a | x) / π_0(a | x) the importance weight, r the reward, q̂(x, a) a reward model fitted on other rounds,
v̂ = Σ_a' π(a' | x) q̂(x, a'), n rounds. An estimator turns rounds into terms, arrays of shape (round,), and its value is

    θ = Σ base / n + Σ numerator / Σ denominator

so that all of them are summed in one pass, over chunks, and resampled together (sums.py, intervals).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.ope.rounds import Rounds
from recsys.types import BoolArray, RealArray


@dataclass(frozen=True)
class Terms:
    """What each round adds to an estimate; arrays of shape (round,)."""

    numerator: RealArray
    denominator: RealArray | None = None  # None: one for every round
    base: RealArray | None = None  # None: nothing


Estimator = Callable[[Rounds], Terms]


def on_policy(rounds: Rounds) -> Terms:
    """What the logging policy earned: Σ r / n."""
    return Terms(rounds.reward)


def replay(rounds: Rounds) -> Terms:
    """Replay: the mean reward where the policy chooses what was logged, Σ π(a | x) r / Σ π(a | x).

    For a policy that draws, each round counts with the probability that its draw agrees, the mean over its own chance
    of the replayer's estimate. Unbiased only if all actions were logged equally often. Li, Chu, Langford & Wang
    (2011).
    """
    return Terms(rounds.chosen * rounds.reward, rounds.chosen)


def direct_method(rounds: Rounds) -> Terms:
    """DM: Σ v̂ / n; as wrong as the model, and no interval knows. Beygelzimer & Langford (2009)."""
    return Terms(_modelled(rounds)[1])


def ips(rounds: Rounds) -> Terms:
    """IPS: Σ w r / n. Horvitz & Thompson (1952); Precup, Sutton & Singh (2000)."""
    return Terms(rounds.weighted_reward)


def snips(rounds: Rounds) -> Terms:
    """Self-normalised IPS: Σ w r / Σ w. Swaminathan & Joachims (2015)."""
    return Terms(rounds.weighted_reward, rounds.weight)


def doubly_robust(rounds: Rounds) -> Terms:
    """DR: Σ v̂ / n + Σ w (r − q̂) / n. Dudík, Langford & Li (2011). MRDR is this with the model of mrdr.py."""
    return Terms(rounds.weighted_residual, base=_modelled(rounds)[1])


def self_normalised_dr(rounds: Rounds) -> Terms:
    """SN-DR: Σ v̂ / n + Σ w (r − q̂) / Σ w. Robins, Sued, Lei-Gomez & Rotnitzky (2007)."""
    return Terms(rounds.weighted_residual, rounds.weight, base=_modelled(rounds)[1])


@dataclass(frozen=True)
class ClippedIPS:
    """Clipped IPS: Σ min(w, τ) r / n. Ionides (2008); Bottou et al. (2013)."""

    threshold: float  # τ

    def __post_init__(self) -> None:
        _not_negative("threshold", self.threshold)

    def __call__(self, rounds: Rounds) -> Terms:
        """Return its terms."""
        return Terms(np.minimum(rounds.weight, self.threshold) * rounds.reward)


@dataclass(frozen=True)
class SwitchDR:
    """Switch-DR: Σ v̂ / n + Σ w 1{w ≤ τ} (r − q̂) / n; DR for τ = ∞, DM for τ = 0. Wang, Agarwal & Dudík (2017)."""

    threshold: float  # τ

    def __post_init__(self) -> None:
        _not_negative("threshold", self.threshold)

    def __call__(self, rounds: Rounds) -> Terms:
        """Return its terms."""
        kept: BoolArray = rounds.weight <= self.threshold
        return Terms(rounds.weighted_residual * kept, base=_modelled(rounds)[1])


@dataclass(frozen=True)
class OptimisticShrinkageDR:
    """DRos: Σ v̂ / n + Σ λ w / (w² + λ) (r − q̂) / n; DR for λ = ∞, DM for λ = 0. Su et al. (2020)."""

    shrinkage: float  # λ

    def __post_init__(self) -> None:
        _not_negative("shrinkage", self.shrinkage)

    def __call__(self, rounds: Rounds) -> Terms:
        """Return its terms; a weight of 0 stays 0 whatever λ is."""
        base = _modelled(rounds)[1]
        if np.isinf(self.shrinkage):
            return Terms(rounds.weighted_residual, base=base)
        bottom = rounds.weight**2 + self.shrinkage
        shrunk = np.divide(
            self.shrinkage * rounds.weight, bottom, out=np.zeros_like(bottom), where=bottom > 0
        )
        return Terms(shrunk * rounds.residual, base=base)


@dataclass(frozen=True)
class Floored:
    """Another estimator with propensities raised to a floor: how much hangs on the rarest choices."""

    floor: float
    estimator: Estimator

    def __call__(self, rounds: Rounds) -> Terms:
        """Return its terms."""
        return self.estimator(rounds.floored(self.floor))


WITHOUT_MODEL: Final[Mapping[str, Estimator]] = {"replay": replay, "ips": ips, "snips": snips}
WITH_MODEL: Final[Mapping[str, Estimator]] = {
    "dm": direct_method,
    "dr": doubly_robust,
    "sndr": self_normalised_dr,
}


def rejection_sample(weight: RealArray, max_weight: float, generator: np.random.Generator) -> BoolArray:
    """Mark rounds that are distributed as if the evaluated policy had logged them: kept with probability w / w_max.

    What is kept can be replayed in order through a policy that learns. Dudík, Erhan, Langford & Li (2012). Raises
    UserError if a weight exceeds `max_weight`.
    """
    if len(weight) and float(weight.max()) > max_weight * (1.0 + 1e-9):
        raise UserError(
            f"the largest weight is {weight.max():g}, must be at most max_weight ({max_weight:g}); raise it"
        )
    return generator.random(len(weight)) * max_weight < weight


def _modelled(rounds: Rounds) -> tuple[RealArray, RealArray]:
    """Return (q̂ of the logged action, v̂); raises UserError if the rounds have no reward model."""
    if rounds.q_logged is None or rounds.value is None:
        raise UserError(
            "0 reward models are given, this estimator needs 1; fit one (reward_models.py) or choose ips or snips"
        )
    return rounds.q_logged, rounds.value


def _not_negative(name: str, value: float) -> None:
    if not value >= 0.0:
        raise UserError(
            f"{name} is {value}, must be at least 0; give 0 for the model alone, inf for no limit"
        )
