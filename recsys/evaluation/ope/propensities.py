"""Propensities of logs that have none: estimated by cross-fitting, calibrated, and said to be estimated.

An estimate is a model of the logging policy. What it leaves out (anything that policy saw and the log does not) biases
every estimate built on it, and no interval shows it: verdicts on estimated propensities say so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from recsys.errors import UserError
from recsys.evaluation.ope.reward_models import Features, folds_of
from recsys.types import LongArray, RealArray

_LEAST = 1e-6  # probability of an action that a classifier calls impossible


@dataclass(frozen=True)
class EstimatedPropensities:
    """A model of the logging policy, evaluated on rounds it has not seen."""

    table: RealArray  # (round, action), rows sum to 1
    logged: RealArray  # (round,) of the logged action
    log_loss: float  # mean −log π̂_0(a | x), out of fold
    log_loss_of_shares: float  # the same of the actions' overall shares: what knowing contexts is worth


def estimate_propensities(
    make: Callable[[], Any],  # returns an unfitted scikit-learn classifier with predict_proba
    context: Features,  # (round, feature)
    action: LongArray,  # (round,)
    actions: int,
    cluster: LongArray | None = None,
    folds: int = 3,
    *,
    calibrate: bool = True,
) -> EstimatedPropensities:
    """Return π̂_0 of every action in every round, from models of other folds, calibrated on those folds' own
    predictions.

    Calibration is isotonic over all pairs of round and action, then rows are made to sum to 1 (Zadrozny & Elkan 2002).
    """
    if len(action) and not 0 <= int(action.min()) <= int(action.max()) < actions:
        raise UserError(
            f"actions reach from {action.min()} to {action.max()}, must lie in 0 to {actions - 1}; raise actions"
        )
    groups = np.arange(len(action), dtype=np.int64) if cluster is None else cluster
    table = np.full((len(action), actions), _LEAST)
    fold = folds_of(groups, folds)
    for number in range(folds):
        held = fold == number
        model = make().fit(context[~held], action[~held])
        table[np.ix_(held, model.classes_)] = np.maximum(model.predict_proba(context[held]), _LEAST)
    table /= table.sum(axis=1, keepdims=True)
    if calibrate:
        table = _calibrated(table, action, fold, folds)
    shares = (np.bincount(action, minlength=actions) + 1.0) / (len(action) + actions)
    logged = table[np.arange(len(action)), action]
    return EstimatedPropensities(
        table, logged, float(-np.log(logged).mean()), float(-np.log(shares[action]).mean())
    )


def estimate_by_shares(
    action: LongArray,  # (round,)
    stratum: LongArray,  # (round,), what the logging policy is thought to depend on
    actions: int,
    strength: float = 20.0,
) -> RealArray:
    """Return π̂_0(a | stratum), (round,): shares within strata, shrunk to overall shares by `strength` rounds.

    For catalogues too large for a classifier. The round itself is left out, or a rare action would explain itself.
    """
    overall = (np.bincount(action, minlength=actions) + 1.0) / (len(action) + actions)
    key, place = np.unique(stratum * actions + action, return_inverse=True)
    together = np.bincount(place, minlength=len(key))[place] - 1.0
    strata, of = np.unique(stratum, return_inverse=True)
    size = np.bincount(of, minlength=len(strata))[of] - 1.0
    estimate: RealArray = (together + strength * overall[action]) / (size + strength)
    return estimate


def _calibrated(table: RealArray, action: LongArray, fold: LongArray, folds: int) -> RealArray:
    """Return the table mapped, fold by fold, by the isotonic curve of the other folds' frequencies."""
    out = table.copy()
    for number in range(folds):
        held = fold == number
        others = np.flatnonzero(~held)
        taken = np.zeros((len(others), table.shape[1]))
        taken[np.arange(len(others)), action[others]] = 1.0
        curve = IsotonicRegression(y_min=_LEAST, y_max=1.0, out_of_bounds="clip")
        curve.fit(table[others].ravel(), taken.ravel())
        out[held] = curve.predict(table[held].ravel()).reshape(-1, table.shape[1])
    calibrated: RealArray = out / out.sum(axis=1, keepdims=True)
    return calibrated
