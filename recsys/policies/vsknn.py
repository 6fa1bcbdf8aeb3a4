"""Session-kNN: what the histories, or sessions, most like the user's own contain (VSKNN, Ludewig & Jannach 2018).

With x_n the binary item vector of a past unit n (a history or one of its sessions) and w the support,

    w_j = decay(p_j) · (1 + ρ · log(N / N_j)),    sim(n) = Σ_j w_j x_nj  [ / |x_n|^½ for the cosine ],
    score(i) = (1 + η · log(N / N_i)) · Σ_{n ∈ neighbours} sim(n) x_ni

where p_j counts back from the newest event, N is the number of units and N_j of those with item j. Neighbours are the
k most similar of the m newest units that share an item with the support; of equals the newer one is taken. Events that
share a timestamp share a place p, because their order means nothing. Left out of the original: a weight of the newest
item shared with each neighbour, which is not a sparse product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy import sparse

from recsys.logs.interactions import training_events
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import History
from recsys.policies.policy import Arrays, pack, unpack
from recsys.policies.popularity import PLAIN, Popularity, PopularityOptions, behind
from recsys.types import FloatArray, LongArray

USERS_AT_ONCE = 256  # whose similarities are held together

Decay = Literal["same", "div", "linear", "quadratic", "log"]


@dataclass(frozen=True)
class VsknnOptions:
    """Which units are neighbours, and what they and the user's own events weigh."""

    unit: Literal["history", "session"] = "history"
    neighbours: int = 200  # k
    sample: int = 2_000  # m
    similarity: Literal["vec", "cosine"] = "cosine"
    decay: Decay = "linear"
    last_events: int = 50  # how many places back the support reaches
    support_idf: float = 0.0  # ρ
    score_idf: float = 0.0  # η
    identified_only: bool = True  # leave anonymous sessions out
    popularity: PopularityOptions = PLAIN  # ranks what no neighbour has


class Vsknn:
    """Sums what similar units contain; popular items where nothing does."""

    units_: sparse.csr_matrix  # x, (unit, item), newest first
    popularity_: FloatArray  # (item,)

    def __init__(self, options: VsknnOptions | None = None) -> None:
        self.options = options or VsknnOptions()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Remember the positively rewarded training events."""
        options = self.options
        chosen = identified(log, histories) if options.identified_only else histories
        popularity = Popularity(options.popularity).fit(log, histories).popularity_
        return self.fit_units(past_units(log, chosen, options.unit), popularity)

    def fit_units(self, units: sparse.csr_matrix, popularity: FloatArray) -> Self:
        """Remember units and a popularity that several fits share."""
        self.units_, self.popularity_ = units, popularity
        units_with = np.bincount(units.indices, minlength=units.shape[1])
        self._rarity = np.log(max(units.shape[0], 1) / np.maximum(units_with, 1)).astype(np.float32)
        self._shorter = np.maximum(np.diff(units.indptr), 1).astype(np.float32) ** np.float32(-0.5)
        self._by_item = units.T.tocsr()
        return self

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return the summed similarity of neighbours that have an item, (user, item)."""
        options = self.options
        items = self.units_.shape[1]
        support = decayed_support(histories, items, options.decay, options.last_events)
        support.data *= 1.0 + np.float32(options.support_idf) * self._rarity[support.indices]
        weight = 1.0 + np.float32(options.score_idf) * self._rarity
        summed = np.zeros((len(histories), items), np.float32)
        for start in range(0, len(histories), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            similarity = support[part] @ self._by_item
            if options.similarity == "cosine":
                similarity.data *= self._shorter[similarity.indices]
            near = neighbours(similarity, options.sample, options.neighbours)
            summed[part] = (near @ self.units_).toarray() * weight
        return behind(summed, summed > 0, self.popularity_)

    def arrays(self) -> Arrays:
        """Return what is kept: the units and the popularity behind them."""
        return {"popularity": self.popularity_, **pack("units", self.units_)}

    def restore(self, arrays: Arrays) -> Self:
        """Take both back."""
        return self.fit_units(unpack("units", arrays), arrays["popularity"])


def past_units(
    log: PreparedLog, histories: LongArray, unit: Literal["history", "session"]
) -> sparse.csr_matrix:
    """Return the binary (unit, item) matrix of positively rewarded training events, newest unit first."""
    row, event = training_events(log, histories)
    kept = np.asarray(log.reward[event]) > 0
    row, event = row[kept], event[kept]
    if unit == "session":
        session = np.asarray(log.session[event]).astype(np.int64)
        row = row * (int(session.max(initial=0)) + 1) + session
    _, row = np.unique(row, return_inverse=True)  # a unit without a rewarded event is none
    count = int(row.max(initial=-1)) + 1
    newest = np.full(count, np.iinfo(np.int64).min)
    np.maximum.at(newest, row, np.asarray(log.timestamp[event]))
    place = np.empty(count, np.int64)
    place[np.argsort(-newest, kind="stable")] = np.arange(count)
    matrix = sparse.csr_matrix(
        (np.ones(len(row), np.float32), (place[row], np.asarray(log.item[event]))),
        shape=(count, len(log.content)),
    )
    matrix.data[:] = 1.0
    return matrix


def decayed_support(
    histories: Sequence[History], items: int, decay: Decay, last_events: int
) -> sparse.csr_matrix:
    """Return decay(p) of the newest rewarded event of each item, (user, item).

    With n the last place of the support: same 1, div 1 / p, linear 1 − (p − 1) / n, quadratic its square, log
    1 / log₂(p + 1).
    """
    lengths = [len(history) for history in histories]
    user = np.repeat(np.arange(len(histories)), lengths)
    if not len(user):
        return sparse.csr_matrix((len(histories), items), dtype=np.float32)
    item = np.concatenate([history.item for history in histories])
    kept = np.concatenate([history.reward for history in histories]) > 0
    timestamp = np.concatenate([history.timestamp for history in histories])[kept][::-1]
    user, item = user[kept][::-1], item[kept][::-1]  # newest first
    earlier = np.ones(len(user), np.int64)
    earlier[1:] = (user[1:] != user[:-1]) | (timestamp[1:] != timestamp[:-1])
    counted = np.cumsum(earlier)
    first = np.full(len(histories), len(user) + 1)
    np.minimum.at(first, user, counted)
    p = counted - first[user] + 1  # 1 = newest
    places = np.zeros(len(histories), np.int64)
    np.maximum.at(places, user, np.minimum(p, last_events))
    _, newest = np.unique(user.astype(np.int64) * items + item, return_index=True)
    newest = newest[p[newest] <= last_events]
    user, item, p = user[newest], item[newest], p[newest].astype(np.float64)
    linear = 1.0 - (p - 1.0) / np.maximum(places[user], 1)
    weight = {
        "same": np.ones(len(p)),
        "div": 1.0 / p,
        "linear": linear,
        "quadratic": linear**2,
        "log": 1.0 / np.log2(p + 1.0),
    }[decay]
    return sparse.csr_matrix((weight.astype(np.float32), (user, item)), shape=(len(histories), items))


def neighbours(similarity: sparse.csr_matrix, sample: int, count: int) -> sparse.csr_matrix:
    """Keep the `count` most similar of the first `sample` entries of each row; of equals the first."""
    similarity.sort_indices()
    similarity = _first_of_rows(similarity, np.arange(similarity.nnz), sample)
    row = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    order = np.lexsort((similarity.indices, -similarity.data, row))
    return _first_of_rows(similarity, order, count)


def _first_of_rows(matrix: sparse.csr_matrix, order: LongArray, count: int) -> sparse.csr_matrix:
    """Return the matrix with the first `count` entries of each row under an order that keeps rows together."""
    length = np.diff(matrix.indptr)
    rank = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], length)
    kept = np.sort(order[rank < count])
    indptr = np.concatenate([[0], np.cumsum(np.minimum(length, count))])
    return sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), shape=matrix.shape)
