"""Reward models q̂(x, a) by cross-fitting: no round is predicted by a model that has seen it, or its cluster.

A model is anything with scikit-learn's fit and predict, or a function of our own; `item_model` needs no features and
serves logs that have none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.evaluation.ope.accumulate import hashed
from recsys.types import FloatArray, LongArray, RealArray

Features = npt.NDArray[np.floating[Any]]


class RewardModel(Protocol):
    """Learns rewards of actions in contexts."""

    def fit(self, context: Features, action: LongArray, reward: RealArray, weight: RealArray | None) -> Self:
        """Learn from rounds: context (round, feature), action, reward and weight (round,)."""
        ...

    def predict(self, context: Features) -> FloatArray:
        """Return q̂ of every action, (round, action)."""
        ...


@dataclass
class ItemMeans:
    """q̂(a) = (Σ r + k m) / (n_a + k): each action's mean reward, shrunk to the mean m of all."""

    actions: int
    strength: float = 10.0  # k, in rounds
    mean_: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))

    def fit(self, context: Features, action: LongArray, reward: RealArray, weight: RealArray | None) -> Self:
        """Average the rewards of each action."""
        given = np.ones(len(reward)) if weight is None else weight
        total = max(float(given.sum()), 1e-12)
        overall = float(given @ reward) / total
        # the strength is in rounds; weights have a scale of their own
        unit = self.strength * total / max(len(reward), 1)
        top = np.bincount(action, given * reward, minlength=self.actions) + unit * overall
        bottom = np.bincount(action, given, minlength=self.actions) + unit
        self.mean_ = (top / np.maximum(bottom, 1e-12)).astype(np.float32)
        return self

    def predict(self, context: Features) -> FloatArray:
        """Return the means for every round, (round, action)."""
        return np.broadcast_to(self.mean_, (len(context), self.actions))


@dataclass
class Regression:
    """q̂(x, a) of a scikit-learn regressor or classifier over [x, action's own features]."""

    make: Callable[[], Any]  # returns an unfitted estimator
    action_features: FloatArray  # (action, feature); an identity matrix where actions have none
    fitted_: Any = None

    def fit(self, context: Features, action: LongArray, reward: RealArray, weight: RealArray | None) -> Self:
        """Fit on the logged actions; a classifier needs rewards of 0 and 1."""
        self.fitted_ = self.make()
        given = np.concatenate([context, self.action_features[action]], axis=1)
        target = reward.astype(np.int64) if hasattr(self.fitted_, "predict_proba") else reward
        if hasattr(self.fitted_, "predict_proba") and len(np.unique(target)) < 2:
            self.fitted_ = float(reward.mean()) if len(reward) else 0.0
        elif weight is None:
            self.fitted_.fit(given, target)
        else:
            self.fitted_.fit(given, target, sample_weight=weight)
        return self

    def predict(self, context: Features) -> FloatArray:
        """Return q̂ of every action, (round, action)."""
        actions = len(self.action_features)
        out = np.empty((len(context), actions), np.float32)
        if isinstance(self.fitted_, float):
            out[:] = self.fitted_
            return out
        for action in range(actions):  # over actions: a block of all pairs would be actions times as large
            own = np.broadcast_to(self.action_features[action], (len(context), self.action_features.shape[1]))
            given = np.concatenate([context, own], axis=1)
            out[:, action] = (
                self.fitted_.predict_proba(given)[:, 1]
                if hasattr(self.fitted_, "predict_proba")
                else self.fitted_.predict(given)
            )
        return out


def folds_of(cluster: LongArray, folds: int) -> LongArray:
    """Return the fold of each round, (round,): whole clusters share one, whatever the order of the log."""
    if folds < 2:
        raise UserError(
            f"folds is {folds}, must be at least 2; a model that has seen its rounds is no model of them"
        )
    return hashed(cluster ^ np.int64(0x5DEECE66D), folds)


def cross_fitted(
    make: Callable[[], RewardModel],
    context: Features,  # (round, feature)
    action: LongArray,  # (round,)
    reward: RealArray,  # (round,)
    cluster: LongArray | None = None,
    folds: int = 3,
    weight: RealArray | None = None,
) -> FloatArray:
    """Return q̂ of every action in every round, (round, action), by models that were fitted on the other folds.

    Chernozhukov et al. (2018). Raises UserError if a fold would leave nothing to learn from.
    """
    fold = folds_of(np.arange(len(action), dtype=np.int64) if cluster is None else cluster, folds)
    out: FloatArray | None = None
    for number in range(folds):
        held = fold == number
        if held.all():
            raise UserError(
                f"all {len(action):,} rounds are of one fold, at least 2 folds must have some; give fewer folds or "
                "more clusters"
            )
        model = make().fit(
            context[~held], action[~held], reward[~held], None if weight is None else weight[~held]
        )
        predicted = model.predict(context[held])
        if out is None:
            out = np.empty((len(action), predicted.shape[1]), np.float32)
        out[held] = predicted
    return np.empty((0, 0), np.float32) if out is None else out


def more_robust_weights(weight: RealArray, propensity: RealArray) -> RealArray:
    """Return what MRDR weights its squared errors with, w² (1 − π_0), made to have mean 1; (round,).

    Given a context DR has the variance Σ_a (π²/π_0 − π²) Δ² in the error Δ of the model, but for what errors of
    different actions share; sampled by π_0 that is the weight. Farajtabar, Chow & Ghavamzadeh (2018); theirs for
    policies that do not draw.
    """
    raw: RealArray = weight * (1.0 - propensity) * weight
    total = float(raw.mean()) if len(raw) else 0.0
    return raw / total if total > 0 else np.ones_like(raw)
