"""Estimators for lists: what a policy that shows L items at once would have earned.

A list's items are drawn from the top: `propensity` and `chosen` of a position are the probabilities of its item given
the context and the items above it (their product is the list's), w_k = π_k / π_0,k. Rewards belong to positions. Every
estimator says which rewards hang on which items, and is as good as that: all are shown side by side.

    standard      a reward may hang on the whole list              w_1 … w_L
    interaction   on its item and those above it (cascade)         w_1 … w_k
    independent   on its own item and position                     marginal w_k

Terms are per list, so sums, intervals and gates are those of rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.rounds import Rounds
from recsys.types import LongArray, RealArray


@dataclass(frozen=True)
class Slates:
    """Logged lists and one evaluated policy; arrays of shape (list, position), zero rewards and equal probabilities
    where a list is shorter than the longest.
    """

    reward: RealArray
    propensity: RealArray  # π_0 of the item given the items above
    chosen: RealArray  # π of the item given the items above
    length: LongArray  # (list,)
    q_logged: RealArray | None = None  # q̂_k: what the item and those below it will earn
    value: RealArray | None = None  # E_π[q̂_k] given the items above
    cluster: LongArray | None = None  # (list,)
    max_weight: float = np.inf  # of the product over a list

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.reward, self.propensity, self.chosen)}
        if len(shapes) != 1 or self.reward.ndim != 2 or len(self.length) != len(self.reward):
            raise UserError(
                f"lists have shapes {sorted(shapes)}, must have one, (list, position); pad the short ones"
            )
        if len(self.reward) and not (0.0 < float(self.propensity[self.shown].min(initial=1.0)) <= 1.0):
            raise UserError(
                f"the least propensity of a list is {self.propensity[self.shown].min():g}, must lie in above 0 to 1; "
                "leave those lists out"
            )

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Mask of the positions that a list has, (list, position)."""
        mask: npt.NDArray[np.bool_] = np.arange(self.reward.shape[1]) < self.length[:, None]
        return mask

    @cached_property
    def ratio(self) -> RealArray:
        """w_k, (list, position); 1 where there is no item."""
        top, bottom = np.where(self.shown, self.chosen, 1.0), np.where(self.shown, self.propensity, 1.0)
        return np.asarray(top / bottom, np.float64)

    @cached_property
    def above(self) -> RealArray:
        """w_1 … w_k, (list, position)."""
        return np.asarray(np.cumprod(self.ratio, axis=1), np.float64)

    def rounds(self) -> Rounds:
        """Return the lists as rounds: whole lists are the actions, their total rewards the rewards."""
        p0 = np.where(self.shown, self.propensity, 1.0).prod(axis=1)
        p = np.where(self.shown, self.chosen, 1.0).prod(axis=1)
        return Rounds(
            (self.reward * self.shown).sum(axis=1), p0, p, cluster=self.cluster, max_weight=self.max_weight
        )


SlateEstimator = Callable[[Slates], Terms]


def slate_standard(slates: Slates) -> Terms:
    """SIPS: Σ w_1…w_L Σ_k r_k / n, without any assumption. Precup, Sutton & Singh (2000)."""
    return Terms(slates.above[:, -1] * (slates.reward * slates.shown).sum(axis=1))


def slate_interaction(slates: Slates) -> Terms:
    """RIPS: Σ Σ_k w_1…w_k r_k / n; a reward hangs on its item and those above. McInerney et al. (2020)."""
    return Terms((slates.above * slates.reward * slates.shown).sum(axis=1))


def slate_interaction_normalised(slates: Slates) -> Terms:
    """RIPS with Σ_k w_1…w_k / L beneath, summed over lists: weighted like a ratio of two means."""
    weight = (slates.above * slates.shown).sum(axis=1) / np.maximum(slates.length, 1)
    return Terms((slates.above * slates.reward * slates.shown).sum(axis=1), weight)


def slate_independent(slates: Slates) -> Terms:
    """IIPS: Σ Σ_k w_k r_k / n. Li, Abbasi-Yadkori, Kveton et al. (2018).

    Exact with marginal probabilities of items at positions. With probabilities given the items above it values the
    policy's choice at each position under the logged items above it, which agrees where rewards and choices hang little
    on those.
    """
    return Terms((slates.ratio * slates.reward * slates.shown).sum(axis=1))


def slate_cascade_dr(slates: Slates) -> Terms:
    """Cascade-DR: Σ Σ_k { w_1…w_k (r_k − q̂_k) + w_1…w_k−1 v̂_k } / n, q̂_k with all that follows below in it.

    Kiyohara, Saito, Matsuhiro, Narita, Shimizu & Yamamoto (2022).
    """
    if slates.q_logged is None or slates.value is None:
        raise UserError("0 reward models are given, cascade-DR needs 1; fit one or choose slate_interaction")
    before = np.concatenate([np.ones((len(slates), 1)), slates.above[:, :-1]], axis=1)
    corrected = slates.above * (slates.reward - slates.q_logged) + before * slates.value
    return Terms((corrected * slates.shown).sum(axis=1))


def slate_pseudo_inverse(slates: Slates) -> Terms:
    """PI for loggers whose positions are drawn apart: Σ (Σ_k w_k − L + 1) Σ_k r_k / n; rewards add up over slots.

    Swaminathan et al. (2017), their weight in closed form for a product logger; others: `pseudo_inverse_weights`.
    """
    weight = (slates.ratio * slates.shown).sum(axis=1) - slates.length + 1.0
    return Terms(weight * (slates.reward * slates.shown).sum(axis=1))


def pseudo_inverse_weights(
    logged: npt.NDArray[np.integer],  # (list, position), items shown
    logging_lists: npt.NDArray[np.integer],  # (drawn list, position), draws of the logging policy
    evaluation_lists: npt.NDArray[np.integer],  # (drawn list, position)
    items: int,
) -> RealArray:
    """Return q_πᵀ Γ⁺ 1_s of each logged list, (list,), in one context, for any logging policy that can be drawn from.

    1_s marks pairs of position and item, Γ = E_π0[1 1ᵀ] and q_π = E_π[1] are averages over draws (all lists once, for
    exactness). Swaminathan et al. (2017), section 3.
    """
    positions = logged.shape[1]
    base = np.arange(positions) * items

    def marks(lists: npt.NDArray[np.integer]) -> RealArray:
        out = np.zeros((len(lists), positions * items))
        out[np.arange(len(lists))[:, None], base + lists] = 1.0
        return out

    drawn = marks(logging_lists)
    gamma = drawn.T @ drawn / len(drawn)
    wanted = marks(evaluation_lists).mean(axis=0)
    weights: RealArray = marks(logged) @ (np.linalg.pinv(gamma, rcond=1e-8, hermitian=True) @ wanted)
    return weights
