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
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import History
from recsys.policies.policy import Arrays, pack, support_matrix, unpack
from recsys.policies.popularity import PLAIN, Popularity, PopularityOptions, behind
from recsys.types import FloatArray, LongArray

DENSE_ENTRIES = 2**24  # similarities held at once while neighbours are chosen


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

    def fit_overlap(self, overlap: "Overlap", popularity: FloatArray) -> Self:
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


@dataclass(frozen=True)
class Overlap:
    """How much of the histories' weight items share."""

    product: sparse.csr_matrix  # o_ji, (item, item), without its diagonal
    degree: FloatArray  # o_ii, (item,)


def overlap(matrix: sparse.csr_matrix, history_exponent: float) -> Overlap:
    """Return the weighted overlaps o_ji of a binary (history, item) matrix."""
    length = np.asarray(matrix.sum(axis=1)).ravel()
    weight = np.maximum(length, 1.0) ** (-2.0 * history_exponent)
    weight *= length.sum() / max(float(length @ weight), 1e-12)  # λ keeps its meaning: a number of histories
    scaled = (sparse.diags(np.sqrt(weight)) @ matrix).astype(np.float32)
    product = (scaled.T @ scaled).tocsr()
    degree = product.diagonal()
    product.setdiag(0.0)
    product.eliminate_zeros()
    return Overlap(product, degree)


def nearest(similarity: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """Keep the `count` largest positive entries of each row; entries as large as the last one stay too."""
    sizes = np.diff(similarity.indptr)
    floor = np.zeros(len(sizes), similarity.dtype)
    crowded = np.flatnonzero(sizes > count)
    crowded = crowded[np.argsort(sizes[crowded], kind="stable")]  # rows of a block are about as long
    while len(crowded):
        width = int(sizes[crowded[-1]])
        rows = crowded[-max(1, DENSE_ENTRIES // width) :]
        crowded = crowded[: -len(rows)]
        place = np.arange(width)[None, :]
        held = place < sizes[rows][:, None]
        entry = np.where(held, similarity.indptr[rows][:, None] + place, 0)
        values = np.where(held, similarity.data[entry], 0.0)
        floor[rows] = np.partition(values, width - count, axis=1)[:, width - count]
    kept = similarity.copy()
    kept.data[kept.data < np.repeat(floor, sizes)] = 0.0
    kept.eliminate_zeros()
    return kept
