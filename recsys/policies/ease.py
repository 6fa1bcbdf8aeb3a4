"""EASE: the closed-form linear autoencoder over items (Steck 2019).

With G = Xᵀ D X, where D weighs a history of n items by n^{−2p}, and P = (G + λI)⁻¹,

    B = I − P · diag(1 / P),  diag(B) = 0,      score(i) = Σ_{j ∈ support} B_ji

p = 0 is the paper's. The dense inverse is taken over the `max_items` most frequent items; the others have no column
and stand behind, by popularity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from recsys.errors import UserError
from recsys.logs.interactions import interaction_matrix
from recsys.logs.overlap import Overlap, overlap
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import History
from recsys.policies.policy import Arrays, support_matrix
from recsys.policies.popularity import PLAIN, Popularity, PopularityOptions, behind
from recsys.types import FloatArray, LongArray

MOST_ITEMS = 20_000  # a dense float32 matrix of so many items holds 1.6 GB, and its inverse takes minutes


@dataclass(frozen=True)
class EaseOptions:
    """How strongly weights are shrunk."""

    l2: float = 200.0  # λ, in histories
    history_exponent: float = 0.0  # p
    max_items: int = 8_000
    identified_only: bool = True  # leave anonymous sessions out
    popularity: PopularityOptions = PLAIN  # ranks for empty histories and beyond max_items


class Ease:
    """Every item a ridge regression on all others; popular items where there is no support."""

    weight_: FloatArray  # B over the frequent items, (frequent item, frequent item)
    item_: LongArray  # (frequent item,)
    popularity_: FloatArray  # (item,)

    def __init__(self, options: EaseOptions | None = None) -> None:
        self.options = options or EaseOptions()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Learn from the positively rewarded training events."""
        options = self.options
        chosen = identified(log, histories) if options.identified_only else histories
        popularity = Popularity(options.popularity).fit(log, histories).popularity_
        return self.fit_overlap(
            overlap(interaction_matrix(log, chosen), options.history_exponent), popularity
        )

    def fit_overlap(self, shared: Overlap, popularity: FloatArray) -> Self:
        """Learn from an overlap and a popularity that several fits share; UserError beyond MOST_ITEMS."""
        options = self.options
        if options.max_items > MOST_ITEMS:
            raise UserError(
                f"max_items of EASE is {options.max_items}, must be at most {MOST_ITEMS}: its matrix is dense; "
                "lower max_items, the rarer items are ranked by popularity"
            )
        self.popularity_ = popularity
        order = np.argsort(-shared.degree, kind="stable")[: options.max_items]
        self.item_ = np.sort(order[shared.degree[order] > 0]).astype(np.int64)
        gram = shared.product[self.item_][:, self.item_].toarray().astype(np.float32, copy=False)
        gram[np.diag_indices_from(gram)] = shared.degree[self.item_] + options.l2
        self.weight_ = ease_weights(gram)
        return self

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return the sums of weights, (user, item)."""
        support = support_matrix(histories, len(self.popularity_))[:, self.item_]
        scores = np.zeros((len(histories), len(self.popularity_)), np.float32)
        scores[:, self.item_] = support @ self.weight_
        spoken = np.zeros(scores.shape, bool)
        spoken[:, self.item_] = (np.diff(support.indptr) > 0)[:, None]
        return behind(scores, spoken, self.popularity_)

    def arrays(self) -> Arrays:
        """Return what is kept: weights, their items and the popularity behind them."""
        return {"popularity": self.popularity_, "weight": self.weight_, "item": self.item_}

    def restore(self, arrays: Arrays) -> Self:
        """Take them back."""
        self.popularity_, self.weight_, self.item_ = arrays["popularity"], arrays["weight"], arrays["item"]
        return self


def ease_weights(gram: FloatArray) -> FloatArray:
    """Return B = I − P diag(1 / P) of a regularised Gram matrix, which is overwritten; both (item, item)."""
    if not len(gram):
        return gram
    factor, info = linalg.lapack.spotrf(gram.T, lower=1, overwrite_a=1)
    inverse, info = linalg.lapack.spotri(factor, lower=1, overwrite_c=1) if info == 0 else (factor, info)
    if info != 0:
        raise UserError("the matrix of EASE is not positive definite; raise its l2")
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weights: FloatArray = inverse / -np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0.0
    return weights
