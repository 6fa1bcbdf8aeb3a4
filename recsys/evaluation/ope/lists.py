"""Lists under one assumption of what a reward hangs on, as rounds: every estimator of a list's total reward.

    whole        on the whole list                       W_k = w_1 … w_L
    cascade      on the item and those above it          W_k = w_1 … w_k
    independent  on the item and its position            W_k = w_k

With lists of one item the three are the same, and the estimators those of estimators.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.slates import Slates, slate_pseudo_inverse
from recsys.evaluation.ope.thresholds import CLIPPING
from recsys.types import LongArray, RealArray

Assumption = Literal["whole", "cascade", "independent"]
ASSUMPTIONS: Final[tuple[Assumption, ...]] = ("whole", "cascade", "independent")
SHRINKAGE: Final = (1.0, 10.0, 100.0, 1000.0)  # λ of the path from DM towards DR
CLIP: Final = 10.0


@dataclass(frozen=True)
class ListRounds:
    """Lists of one policy under an assumption; first axis list."""

    slates: Slates
    assumption: Assumption

    def __len__(self) -> int:
        return len(self.slates)

    @cached_property
    def weights(self) -> RealArray:
        """W_k, (list, position); 0 beyond a list's length."""
        slates = self.slates
        if self.assumption == "independent":
            return slates.ratio * slates.shown
        if self.assumption == "cascade":
            return slates.above * slates.shown
        return slates.above[:, -1:] * slates.shown

    @cached_property
    def before(self) -> RealArray:
        """What the model's value of position k is weighted with: the weight of what lies above, (list, position)."""
        slates = self.slates
        if self.assumption == "independent":
            return slates.shown.astype(np.float64)
        above = np.concatenate([np.ones((len(slates), 1)), slates.above[:, :-1]], axis=1)
        return np.asarray(above * slates.shown, np.float64)

    @cached_property
    def weight(self) -> RealArray:
        """Mean of W_k over a list's positions, (list,): 1 in expectation."""
        mean: RealArray = self.weights.sum(axis=1) / np.maximum(self.slates.length, 1)
        return mean

    @cached_property
    def reward(self) -> RealArray:
        """Total reward of a list, (list,)."""
        total: RealArray = (self.slates.reward * self.slates.shown).sum(axis=1)
        return total

    @cached_property
    def residual(self) -> RealArray:
        """Total reward minus the model's, (list,)."""
        if self.slates.q_logged is None:
            return self.reward
        modelled: RealArray = (self.slates.q_logged * self.slates.shown).sum(axis=1)
        return self.reward - modelled

    @cached_property
    def propensity(self) -> RealArray:
        """Probability of the list, or of its least likely item where positions count alone, (list,)."""
        given = np.where(self.slates.shown, self.slates.propensity, 1.0)
        least: RealArray = given.min(axis=1) if self.assumption == "independent" else given.prod(axis=1)
        return least

    @property
    def cluster(self) -> LongArray | None:
        """User of each list."""
        return self.slates.cluster

    @property
    def max_weight(self) -> float:
        """Largest weight there can be."""
        return self.slates.max_weight


def list_columns(lists: ListRounds, *, many: bool | None = None) -> dict[str, Terms]:
    """Return the terms of every estimator under the assumption, and of IPS and SNIPS under the others.

    `many` says whether any list of the log has more than one item; None asks these.
    """
    slates, weights = lists.slates, lists.weights
    reward = slates.reward * slates.shown
    earned = (weights * reward).sum(axis=1)
    columns = {
        "ips": Terms(earned),
        "snips": Terms(earned, lists.weight),
        f"clipped({CLIP:g})": Terms((np.minimum(weights, CLIP) * reward).sum(axis=1)),
        "replay": _replayed(lists),
    }
    if slates.q_logged is not None and slates.value is not None and lists.assumption != "whole":
        error = (slates.reward - slates.q_logged) * slates.shown
        model = (slates.value * slates.shown).sum(axis=1)
        value = (lists.before * slates.value).sum(axis=1)
        corrected = (weights * error).sum(axis=1)
        columns |= {
            "dm": Terms(model),
            "dr": Terms(corrected, base=value),
            "sndr": Terms(corrected, lists.weight, base=value),
        }
        for strength in SHRINKAGE:
            shrunk = strength * weights / (weights**2 + strength)
            columns[f"dros({strength:g})"] = Terms((shrunk * error).sum(axis=1), base=value)
    if many if many is not None else slates.reward.shape[1] > 1:
        for other in ASSUMPTIONS:
            if other != lists.assumption:
                apart = ListRounds(slates, other)
                gained = (apart.weights * reward).sum(axis=1)
                columns |= {f"ips, {other}": Terms(gained), f"snips, {other}": Terms(gained, apart.weight)}
        columns["pseudo-inverse"] = slate_pseudo_inverse(slates)
    return columns


def family_columns(lists: ListRounds) -> dict[str, Terms]:
    """Return clipped IPS and Switch-DR at every threshold that one may be chosen from (thresholds.py)."""
    slates, weights = lists.slates, lists.weights
    reward = slates.reward * slates.shown
    columns = {
        f"clipped({most:g})": Terms((np.minimum(weights, most) * reward).sum(axis=1)) for most in CLIPPING
    }
    if slates.q_logged is not None and slates.value is not None and lists.assumption != "whole":
        error = weights * (slates.reward - slates.q_logged) * slates.shown
        value = (lists.before * slates.value).sum(axis=1)
        for most in CLIPPING:
            columns[f"switch({most:g})"] = Terms((error * (weights <= most)).sum(axis=1), base=value)
    return columns


def families(names: Collection[str]) -> dict[str, list[str]]:
    """Return the families that were summed, by name: settings from the least bias to the most."""

    def members(family: str, settings: Sequence[float]) -> list[str]:
        return [f"{family}({value:g})" for value in sorted(settings, reverse=True)]

    found = {
        "clipped": ["ips", *members("clipped", CLIPPING)],
        "switch": ["dr", *members("switch", CLIPPING)],
        "dros": ["dr", *members("dros", SHRINKAGE)],
    }
    return {family: list(each) for family, each in found.items() if set(each) <= set(names)}


def floored_columns(lists: ListRounds, floors: Mapping[float, str]) -> dict[str, Terms]:
    """Return SNIPS with propensities raised to floors, by the names given."""
    out = {}
    for floor, name in floors.items():
        slates = lists.slates
        raised = Slates(
            slates.reward,
            np.maximum(slates.propensity, floor),
            slates.chosen,
            slates.length,
            cluster=slates.cluster,
        )
        apart = ListRounds(raised, lists.assumption)
        out[name] = Terms((apart.weights * slates.reward * slates.shown).sum(axis=1), apart.weight)
    return out


def _replayed(lists: ListRounds) -> Terms:
    """Return the replayer's estimate for whole lists: those that the policy would have drawn, in that order."""
    chance = np.where(lists.slates.shown, lists.slates.chosen, 1.0).prod(axis=1)
    return Terms(chance * lists.reward, chance)
