"""Logged rounds, reduced to the few numbers per round that every estimator reads.

A round is one choice: the policy that logged chose an action a in a context x with a known probability π_0(a | x), the
propensity, and a reward followed. Of the evaluated policy π and of a reward model q̂ an estimator needs no more than
π(a | x), q̂(x, a) and Σ_a' π(a' | x) q̂(x, a'), whatever the number of actions: that is what is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.types import LongArray, RealArray

_SUM_TOLERANCE = 1e-3  # of a row of probabilities in single precision
_BLOCK = 65_536  # rounds reduced at once


@dataclass(frozen=True)
class Rounds:
    """Logged rounds and one evaluated policy; every array has shape (round,)."""

    reward: RealArray
    propensity: RealArray  # π_0(a | x) of the logged action
    chosen: RealArray  # π(a | x) of the logged action
    q_logged: RealArray | None = None  # q̂(x, a)
    value: RealArray | None = None  # Σ_a' π(a' | x) q̂(x, a')
    cluster: LongArray | None = None  # user or session; None: rounds are independent
    max_weight: float = np.inf  # largest weight there can be, not the largest seen

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def weight(self) -> RealArray:
        """The importance weight π(a | x) / π_0(a | x), (round,)."""
        return self.chosen / self.propensity

    @cached_property
    def weighted_reward(self) -> RealArray:
        """w r, (round,)."""
        return self.weight * self.reward

    @cached_property
    def residual(self) -> RealArray:
        """r − q̂(x, a), (round,); the reward itself without a model."""
        return self.reward if self.q_logged is None else self.reward - self.q_logged

    @cached_property
    def weighted_residual(self) -> RealArray:
        """w (r − q̂), (round,)."""
        return self.weight * self.residual

    def at(self, rows: npt.NDArray[Any] | slice) -> "Rounds":
        """Return some of the rounds."""
        given = {part.name: getattr(self, part.name) for part in fields(self)}
        cut: dict[str, Any] = {
            name: values[rows] if isinstance(values, np.ndarray) else values for name, values in given.items()
        }
        return Rounds(**cut)

    def floored(self, floor: float) -> "Rounds":
        """Return the rounds with propensities below `floor` raised to it: smaller weights, and a bias."""
        return replace(self, propensity=np.maximum(self.propensity, floor))


def reduce_rounds(
    action: npt.NDArray[np.integer],  # (round,)
    reward: npt.NDArray[np.floating],  # (round,)
    propensity: npt.NDArray[np.floating],  # (round,)
    evaluation: npt.NDArray[np.floating],  # (round, action), π(· | x)
    q_values: npt.NDArray[np.floating] | None = None,  # (round, action), q̂(x, ·)
    cluster: npt.NDArray[np.integer] | None = None,  # (round,)
    max_weight: float = np.inf,
) -> Rounds:
    """Return the rounds of a log whose evaluated policy is given as a table of probabilities.

    Raises UserError where shapes disagree, an action is none of the table's, or a row is no distribution.
    """
    rows, actions = evaluation.shape
    if not len(action) == len(reward) == len(propensity) == rows:
        raise UserError(
            f"{len(action):,} actions, {len(reward):,} rewards, {len(propensity):,} propensities and {rows:,} rows of "
            "probabilities, must be as many; give one of each for every round"
        )
    if rows and not 0 <= int(action.min()) <= int(action.max()) < actions:
        raise UserError(
            f"actions reach from {action.min()} to {action.max()}, must lie in 0 to {actions - 1}; "
            "give columns for all actions"
        )
    if q_values is not None and q_values.shape != evaluation.shape:
        raise UserError(
            f"q_values have shape {q_values.shape}, must have {evaluation.shape}; predict them all"
        )
    ones = np.ones(actions, evaluation.dtype)
    value = None if q_values is None else np.empty(rows)
    for part in blocks(rows, max(1, _BLOCK * 16 // max(actions, 1))):
        sums = evaluation[part] @ ones
        if not (np.abs(sums - 1.0) <= _SUM_TOLERANCE).all() or evaluation[part].min(initial=0.0) < 0.0:
            worst = part.start + int(np.nanargmax(np.abs(np.nan_to_num(sums, nan=np.inf) - 1.0)))
            raise UserError(
                f"the probabilities of round {worst} sum to {evaluation[worst].sum():g} with the least "
                f"{evaluation[worst].min():g}, must sum to 1 without negatives; normalise each row"
            )
        if value is not None and q_values is not None:
            value[part] = np.einsum("ra,ra->r", evaluation[part], q_values[part])
    place = np.arange(rows)
    return Rounds(
        reward=np.asarray(reward, np.float64),
        propensity=np.asarray(propensity, np.float64),
        chosen=evaluation[place, action].astype(np.float64),
        q_logged=None if q_values is None else q_values[place, action].astype(np.float64),
        value=value,
        cluster=None if cluster is None else np.asarray(cluster, np.int64),
        max_weight=max_weight,
    )


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _check(rounds: Rounds) -> None:
    sizes = {
        part.name: len(values)
        for part in fields(rounds)
        if isinstance(values := getattr(rounds, part.name), np.ndarray)
    }
    if len(set(sizes.values())) > 1:
        raise UserError(f"arrays of rounds differ in length: {sizes}; give one number for every round")
    if (rounds.q_logged is None) != (rounds.value is None):
        raise UserError(
            "q_logged and value come from one model, must both be given or neither; give the other"
        )
    if not len(rounds):
        return
    for name, least, most in (("propensity", 0.0, 1.0), ("chosen", 0.0, 1.0)):
        values = getattr(rounds, name)
        low, high = float(values.min()), float(values.max())
        if not (least <= low and high <= most + 1e-6) or (name == "propensity" and low == 0.0):
            raise UserError(
                f"{name} reaches from {low:g} to {high:g}, must lie in "
                f"{'above 0' if name == 'propensity' else '0'} to 1; leave rounds without a known one out"
            )
    for name in ("reward", "q_logged", "value"):
        values = getattr(rounds, name)
        if values is not None and not np.isfinite(values).all():
            raise UserError(
                f"{name} holds {int((~np.isfinite(values)).sum()):,} numbers that are not finite, must hold none; "
                "drop those rounds or mend their source"
            )
    if not rounds.max_weight > 0.0:
        raise UserError(f"max_weight is {rounds.max_weight}, must be above 0; leave it out if it is unknown")
