"""The baselines that every learned policy has to beat: popularity and item-kNN.

Both are sparse products: no loop over users or items. Item-kNN scores i by Σ_{j ∈ support} s(j, i) with

    s(j, i) = Σ_h n_h^{-2p} x_hj x_hi / ((d_j d_i)^a + λ),        d_i = Σ_h n_h^{-2p} x_hi

over the k nearest j of each i, where x is the binary (history, item) matrix and n_h the number of items of history h.
a = 1/2, p = 0, λ = 0 is the cosine; λ shrinks what few histories support (Deshpande & Karypis 2004), p > 0 trusts
long histories less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy import sparse

from recsys.learning.factors import interaction_matrix, training_events
from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import History
from recsys.policies.policy import identified, support_matrix
from recsys.types import FloatArray, LongArray

SECONDS_PER_DAY = 86_400.0
DENSE_ENTRIES = 2**24  # similarities held densely at once while neighbours are chosen


@dataclass(frozen=True)
class PopularityOptions:
    """What counts as popular."""

    count: Literal["histories", "events"] = "histories"
    half_life_days: float | None = None  # an event this old counts half; None: age does not matter
    window_days: float | None = None  # older events do not count; None: all do
    identified_only: bool = True  # leave anonymous sessions out


class Popularity:
    """The same list for everybody: how many histories, or events, have the item."""

    popularity_: FloatArray  # (item,)

    def __init__(self, options: PopularityOptions | None = None) -> None:
        self.options = options or PopularityOptions()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Count the positively rewarded training events; age is measured from the last of them."""
        options = self.options
        chosen = identified(log, histories) if options.identified_only else histories
        row, event = training_events(log, chosen)
        rewarded = np.asarray(log.reward[event]) > 0
        row, event = row[rewarded], event[rewarded]
        timestamp = np.asarray(log.timestamp[event])
        age = (timestamp.max(initial=0) - timestamp) / SECONDS_PER_DAY
        weight = np.ones(len(event)) if options.half_life_days is None else 0.5 ** (age / options.half_life_days)
        if options.window_days is not None:
            weight[age > options.window_days] = 0.0
        items, item = len(log.content), np.asarray(log.item[event])
        if options.count == "histories":
            # a history counts once, with the weight of its newest event of the item
            key = row * items + item
            order = np.lexsort((weight, key))
            newest = np.append(np.diff(key[order]) != 0, True)[: len(order)]
            item, weight = item[order][newest], weight[order][newest]
        self.popularity_ = np.bincount(item, weight, minlength=items).astype(np.float32)
        return self

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return the popularity of each item for each user, (user, item)."""
        return np.tile(self.popularity_, (len(histories), 1))


@dataclass(frozen=True)
class ItemKnnOptions:
    """How alike two items are, and how many neighbours speak for an item."""

    exponent: float = 0.5  # a
    history_exponent: float = 0.0  # p
    shrinkage: float = 10.0  # λ
    neighbours: int = 0  # k; 0: all
    identified_only: bool = True  # leave anonymous sessions out
    popularity: PopularityOptions = PopularityOptions()  # ranks what no neighbour speaks for


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
        return self.fit_overlap(overlap(interaction_matrix(log, chosen), options.history_exponent), popularity)

    def fit_overlap(self, overlap: "Overlap", popularity: FloatArray) -> Self:
        """Learn from an overlap and a popularity that several fits share."""
        options = self.options
        self.popularity_ = popularity
        power = np.maximum(overlap.degree, 1e-12) ** options.exponent
        similarity = overlap.product.copy()
        columns = similarity.indices
        rows = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
        similarity.data = (similarity.data / (power[rows] * power[columns] + options.shrinkage)).astype(np.float32)
        if options.neighbours:
            # the overlap is symmetric: the nearest of each row, transposed, are the nearest of each scored item
            similarity = nearest(similarity, options.neighbours).T.tocsr()
        self.similarity_ = similarity
        return self

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return summed similarities; items without any are negative and ordered by popularity; (user, item)."""
        support = support_matrix(histories, len(self.popularity_))
        summed = (support @ self.similarity_).toarray()
        unspoken = self.popularity_ / max(float(self.popularity_.max(initial=0.0)), 1e-12) - 2.0
        return np.where(summed > 0, summed, unspoken).astype(np.float32)


@dataclass(frozen=True)
class Overlap:
    """How much of the histories' weight items share."""

    product: sparse.csr_matrix  # (item, item), without diagonal
    degree: FloatArray  # (item,)


def overlap(matrix: sparse.csr_matrix, history_exponent: float) -> Overlap:
    """Return Σ_h n_h^{-2p} x_hj x_hi off the diagonal, and d_i on it, of a binary (history, item) matrix."""
    length = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    scaled = (sparse.diags(length**-history_exponent) @ matrix).astype(np.float32)
    product = (scaled.T @ scaled).tocsr()
    degree = product.diagonal()
    product.setdiag(0.0)
    product.eliminate_zeros()
    return Overlap(product, degree)


def nearest(similarity: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """Keep the `count` largest positive entries of each row; entries as large as the last one stay too."""
    items = similarity.shape[1]
    if count >= items:
        return similarity
    block = max(1, DENSE_ENTRIES // items)
    thresholds = []
    for start in range(0, similarity.shape[0], block):  # over blocks that fit in memory
        dense = similarity[start : start + block].toarray()
        thresholds.append(np.partition(dense, items - count, axis=1)[:, items - count])
    floor = np.repeat(np.concatenate(thresholds), np.diff(similarity.indptr))
    kept = similarity.copy()
    kept.data[kept.data < floor] = 0.0
    kept.eliminate_zeros()
    return kept
