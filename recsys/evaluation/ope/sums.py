"""One pass over rounds: sums by block, small enough to keep and all that estimates and intervals need.

Clusters (users, sessions) are hashed into a bounded number of blocks. Blocks of independent clusters are independent
too, so variances and third moments of block sums are those of cluster sums; only degrees of freedom are lost, and only
when there are more clusters than blocks. Memory is blocks × columns, whatever the length of the log.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np

from recsys.errors import UserError
from recsys.types import LongArray, RealArray

BLOCKS: Final = 4096
LOGGING: Final = "logging"  # the column of what the logging policy earned
Kind = Literal["count", "weight", "other"]


class Weighted(Protocol):
    """Rounds of one policy, or lists, as sums read them; arrays of shape (round,)."""

    @property
    def weight(self) -> RealArray:
        """Importance weight, 1 in expectation."""
        ...

    @property
    def reward(self) -> RealArray:
        """What was earned."""
        ...

    @property
    def residual(self) -> RealArray:
        """Reward minus the model's."""
        ...

    @property
    def propensity(self) -> RealArray:
        """Probability of what was logged."""
        ...

    @property
    def cluster(self) -> LongArray | None:
        """User or session; None: rounds are independent."""
        ...

    @property
    def max_weight(self) -> float:
        """Largest weight there can be; inf if unknown."""
        ...

    def __len__(self) -> int:
        """Return the number of rounds."""
        ...


@dataclass(frozen=True)
class WeightSummary:
    """What a gate asks of the importance weights of one policy."""

    rounds: int
    total: float  # Σ w
    squares: float  # Σ w²
    largest: float

    @property
    def mean(self) -> float:
        """Σ w / n, whose expectation is 1 if the log could have shown all that the policy shows."""
        return self.total / max(self.rounds, 1)

    @property
    def effective(self) -> float:
        """Effective sample size (Σ w)² / Σ w², in rounds. Kong (1992)."""
        return self.total**2 / self.squares if self.squares > 0 else 0.0

    @property
    def largest_share(self) -> float:
        """The largest weight's share of their sum."""
        return self.largest / self.total if self.total > 0 else 1.0


@dataclass(frozen=True)
class Sums:
    """Sums by block; θ = Σ base / Σ count + Σ numerator / Σ denominator for each column."""

    names: tuple[str, ...]
    block: LongArray  # (block,) which of all blocks these are
    count: RealArray  # (block,) rounds
    base: RealArray  # (block, column)
    numerator: RealArray  # (block, column)
    denominator: RealArray  # (block, column)
    control: RealArray  # (block, policy), Σ (w − 1): zero in expectation
    reward_range: tuple[float, float]  # of the rewards seen
    weights: tuple[WeightSummary, ...]  # of each policy
    residual_range: tuple[tuple[float, float], ...]  # of r − q̂ as seen, by policy
    policies: tuple[str, ...]
    kinds: tuple[Kind, ...]  # of each column's denominator
    max_weight: tuple[float, ...]  # by policy, as given; inf: unknown
    least_propensity: float

    def __len__(self) -> int:
        return len(self.count)

    @property
    def rounds(self) -> int:
        """Rounds of the log."""
        return int(self.count.sum())

    def column(self, name: str) -> int:
        """Return the place of an estimator; raises UserError if it was not summed."""
        if name not in self.names:
            raise UserError(f"no estimator {name!r} was summed; there are: {', '.join(self.names)}")
        return self.names.index(name)

    def policy_of(self, column: int) -> int | None:
        """Return the place of the policy that a column is about; None for the policy that logged."""
        if self.names[column] == LOGGING:
            return None
        name = self.names[column]
        return self.policies.index(name.rpartition("/")[0] or name) if len(self.policies) > 1 else 0

    def estimates(self) -> RealArray:
        """Return θ of every column, (column,); NaN where nothing was matched."""
        return values_of(
            self.count.sum(keepdims=True),
            self.base.sum(axis=0),
            self.numerator.sum(axis=0),
            self.denominator.sum(axis=0),
        )

    def influence(self) -> RealArray:
        """Return what each block adds to θ − E θ to first order, (block, column): the ratio's own derivative."""
        total = max(float(self.count.sum()), 1.0)
        bottom = self.denominator.sum(axis=0)
        ratio = _divided(self.numerator.sum(axis=0), bottom)
        mean = self.base.sum(axis=0) / total
        model: RealArray = (self.base - mean * self.count[:, None]) / total
        return model + _divided(self.numerator - ratio * self.denominator, bottom)


def values_of(count: RealArray, base: RealArray, numerator: RealArray, denominator: RealArray) -> RealArray:
    """Return Σ base / Σ count + Σ numerator / Σ denominator."""
    return np.asarray(base / np.maximum(count, 1.0) + _divided(numerator, denominator), np.float64)


def _divided(top: RealArray, bottom: RealArray) -> RealArray:
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    out: RealArray = np.full(shape, np.nan)
    np.divide(top, bottom, out=out, where=np.broadcast_to(bottom, shape) != 0.0)
    return out
