"""Item-kNN: items that occur in the same histories as what the user took, as one sparse product.

An item i scores Σ_{j ∈ support} s(j, i) with

    s(j, i) = o_ji / (o_jj o_ii)^a · o_ji / (o_ji + λ),     o_ji = Σ_h w_h x_hj x_hi,     w_h ∝ n_h^{-2p}

over the k nearest j of each i, where x is the binary (history, item) matrix, n_h the number of items of
history h and the mean weight of an interaction is 1. a = 1/2, p = 0, λ = 0 is the cosine; λ shrinks what few
histories support (Koren 2010, eq. 2), p > 0 trusts long histories less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from recsys.logs.interactions import interaction_matrix
from recsys.logs.overlap import Overlap, nearest, overlap
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import History
from recsys.policies.policy import Arrays, pack, support_matrix, unpack
from recsys.policies.popularity import PLAIN, Popularity, PopularityOptions, behind
from recsys.types import FloatArray, LongArray


@dataclass(frozen=True)
class ItemKnnOptions:
    """How alike two items are, and how many neighbours speak for an item."""

    exponent: float = 0.5  # a
    history_exponent: float = 0.0  # p
    shrinkage: float = 10.0  # λ
    neighbours: int = 0  # k; 0: all
    identified_only: bool = True  # leave anonymous sessions out
    popularity: PopularityOptions = PLAIN  # ranks what no neighbour speaks for


class ItemKnn:
    """Items that occur in the same histories as what the user took; popular items where nothing speaks."""

    similarity_: sparse.csr_matrix  # (support item, scored item)
    popularity_: FloatArray  # (item,)

    def __init__(self, options: ItemKnnOptions | None = None) -> None:
        self.options = options or ItemKnnOptions()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Learn similarities from the positively rewarded training events."""
        options = self.options
        chosen = identified(log, histories) if options.identified_only else histories
        popularity = Popularity(options.popularity).fit(log, histories).popularity_
        return self.fit_overlap(
            overlap(interaction_matrix(log, chosen), options.history_exponent), popularity
        )

    def fit_overlap(self, overlap: Overlap, popularity: FloatArray) -> Self:
        """Learn from an overlap and a popularity that several fits share."""
        options = self.options
        self.popularity_ = popularity
        similarity = overlap.product.copy()
        shrunk = similarity.data**2 / (similarity.data + np.float32(options.shrinkage))
        scale = np.maximum(overlap.degree, np.float32(1e-12)) ** np.float32(-options.exponent)
        similarity.data = shrunk * np.repeat(scale, np.diff(similarity.indptr)) * scale[similarity.indices]
        if options.neighbours:
            # overlaps are symmetric: the nearest of each row, transposed, are the nearest of each scored item
            similarity = nearest(similarity, options.neighbours).T.tocsr()
        self.similarity_ = similarity
        return self

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return summed similarities, (user, item); items without any are negative, by popularity."""
        support = support_matrix(histories, len(self.popularity_))
        summed = (support @ self.similarity_).toarray()
        return behind(summed, summed > 0, self.popularity_)

    def arrays(self) -> Arrays:
        """Return what is kept: similarities and the popularity behind them."""
        return {"popularity": self.popularity_, **pack("similarity", self.similarity_)}

    def restore(self, arrays: Arrays) -> Self:
        """Take both back."""
        self.popularity_, self.similarity_ = arrays["popularity"], unpack("similarity", arrays)
        return self
