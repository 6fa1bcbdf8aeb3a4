"""The reward model of replay: q̂ of an item at a position from the users of other folds.

    q̂_f(i, k) = b_f,k · (Σ r_i / b + κ) / (n_i + κ),   over lists of users outside fold f

b_k the mean reward of position k, n_i and Σ r_i / b counts and rewards of item i relative to their positions' means. No
round is predicted by anything its user did. It is a control variate, not a claim: DR is right without it.
"""

import numpy as np

from recsys.evaluation.ope.reward_models import folds_of
from recsys.types import LongArray, RealArray

_STRENGTH = 20.0  # κ, in impressions at the mean


class ListModel:
    """Sums by fold, item and position; learnt in one pass, read many times."""

    def __init__(self, folds: int = 3) -> None:
        self.folds = folds
        self._items = np.zeros((folds, 0, 2))  # (fold, item, (impressions, rewards))
        self._positions = np.zeros((folds, 0, 2))
        self._tables: dict[tuple[int, int], RealArray] = {}

    def learn(self, cluster: LongArray, item: LongArray, reward: RealArray, length: LongArray) -> None:
        """Add lists: item codes and rewards (list, position)."""
        self._tables.clear()
        if not len(item):
            return
        shown = np.arange(item.shape[1]) < length[:, None]
        fold = np.broadcast_to(folds_of(cluster, self.folds)[:, None], item.shape)[shown]
        position = np.broadcast_to(np.arange(item.shape[1]), item.shape)[shown]
        self._items = _grown(self._items, int(item.max()) + 1)
        self._positions = _grown(self._positions, item.shape[1])
        for sums, place in ((self._items, item[shown]), (self._positions, position)):
            flat = fold * sums.shape[1] + place
            size = self.folds * sums.shape[1]
            sums[..., 0] += np.bincount(flat, minlength=size).reshape(self.folds, -1)
            sums[..., 1] += np.bincount(flat, reward[shown], minlength=size).reshape(self.folds, -1)

    def table(self, cluster: int, length: int) -> RealArray:
        """Return q̂ for lists of a user, (position, item + 1); the last column is for items never shown."""
        fold = int(folds_of(np.array([cluster]), self.folds)[0])
        key = (fold, length)
        if key not in self._tables:
            others = np.arange(self.folds) != fold
            items, positions = self._items[others].sum(axis=0), self._positions[others].sum(axis=0)
            overall = positions[:, 1].sum() / max(positions[:, 0].sum(), 1.0)
            by_position = (positions[:, 1] + _STRENGTH * overall) / (positions[:, 0] + _STRENGTH)
            # items are shown at every position, so that a position's mean stands for the mean of its items
            relative = (items[:, 1] + _STRENGTH * overall) / ((items[:, 0] + _STRENGTH) * (overall or 1.0))
            table = by_position[:length, None] * np.append(relative, 1.0)
            self._tables[key] = table
        return self._tables[key]


def _grown(sums: RealArray, size: int) -> RealArray:
    missing = size - sums.shape[1]
    return sums if missing <= 0 else np.pad(sums, ((0, 0), (0, missing), (0, 0)))
