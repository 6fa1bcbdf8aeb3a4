"""Ranking metrics over the full catalogue, one value per user, so that intervals need no second code path."""

from dataclasses import dataclass

import numpy as np

from recsys.types import BoolArray, FloatArray, IntArray, LongArray


@dataclass(frozen=True)
class QuerySets:
    """Relevant items of each user, end to end."""

    item: IntArray  # (relevant item,)
    offsets: LongArray  # (user + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> LongArray:
        """Relevant items per user."""
        return np.diff(self.offsets)

    def rows(self, part: slice) -> "QuerySets":
        """Return the sets of some users."""
        offsets = self.offsets[part.start : min(part.stop, len(self)) + 1]
        return QuerySets(self.item[offsets[0] : offsets[-1]], offsets - offsets[0])

    @staticmethod
    def of(rows: list[IntArray]) -> "QuerySets":
        """Lay one array of relevant items per user end to end."""
        sizes = np.array([len(row) for row in rows], np.int64)
        flat = np.concatenate(rows) if rows else np.empty(0)
        return QuerySets(flat.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def tie_order(items: int, seed: int) -> IntArray:
    """Return the one seeded permutation that breaks ties between equal scores; (item,)."""
    return np.random.default_rng(seed).permutation(items).astype(np.int32)


def top_items(scores: FloatArray, excluded: BoolArray, count: int, ties: IntArray) -> IntArray:
    """Return the best items of each row of scores, (user, count); excluded ones come last, if at all."""
    masked = np.where(excluded, -np.inf, scores)
    users, items = masked.shape
    count = min(count, items)
    if not count or not users:
        return np.empty((users, count), np.int32)
    # only what is as good as the last place is sorted, ties with it included
    floor = np.partition(masked, items - count, axis=1)[:, items - count]
    row, item = np.nonzero(masked >= floor[:, None])
    # scores are ranked first and ties second: no score is nudged
    order = np.lexsort((ties[item], -masked[row, item], row))
    starts = np.searchsorted(row, np.arange(users))
    best: IntArray = item[order][starts[:, None] + np.arange(count)].astype(np.int32)
    return best


def hits(ranked: IntArray, query: QuerySets) -> BoolArray:
    """Mark the ranked items that are relevant; (user, position). Item -1 stands for an empty place."""
    width = int(max(ranked.max(initial=0), query.item.max(initial=0))) + 1
    users = np.repeat(np.arange(len(query), dtype=np.int64), query.sizes)
    relevant = users * width + query.item
    shown = np.arange(len(ranked), dtype=np.int64)[:, None] * width + ranked
    return np.isin(shown, relevant) & (ranked >= 0)


def ndcg(hit: BoolArray, relevant: LongArray) -> FloatArray:
    """Return DCG / ideal DCG with binary gain and discount 1 / log2(position + 2), 0-based; (user,)."""
    discount = 1.0 / np.log2(np.arange(hit.shape[1]) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, hit.shape[1])]
    gained: FloatArray = ((hit * discount).sum(axis=1) / np.maximum(ideal, 1e-12)).astype(np.float32)
    return gained


def recall(hit: BoolArray, relevant: LongArray) -> FloatArray:
    """Return the share of the reachable relevant items ranked, hits / min(relevant, positions); (user,)."""
    reachable = np.minimum(relevant, hit.shape[1])
    share: FloatArray = (hit.sum(axis=1) / np.maximum(reachable, 1)).astype(np.float32)
    return share


def reciprocal_rank(hit: BoolArray) -> FloatArray:
    """Return 1 / (1 + position of the first relevant item), 0 if the list holds none; (user,)."""
    first = np.argmax(hit, axis=1) if hit.shape[1] else np.zeros(len(hit), np.int64)
    return np.where(hit.any(axis=1), 1.0 / (first + 1.0), 0.0).astype(np.float32)


def average_precision(hit: BoolArray, relevant: LongArray) -> FloatArray:
    """Return Σ_k hit_k · precision_k / min(relevant, positions), precision_k = hits up to k / (k + 1); (user,).

    Divided by what the list could have held, so that a perfect list has 1 whatever the cutoff; trec_eval divides by all
    relevant items.
    """
    places = np.arange(1, hit.shape[1] + 1)
    gained = (hit * np.cumsum(hit, axis=1) / places).sum(axis=1)
    mean: FloatArray = (gained / np.maximum(np.minimum(relevant, hit.shape[1]), 1)).astype(np.float32)
    return mean


def hit_rate(hit: BoolArray) -> FloatArray:
    """Return 1 if the list holds a relevant item, else 0; (user,)."""
    return np.asarray(hit.any(axis=1), np.float32)


def precision(hit: BoolArray) -> FloatArray:
    """Return the share of positions with a relevant item, hits / positions; (user,)."""
    found: FloatArray = (hit.sum(axis=1) / max(hit.shape[1], 1)).astype(np.float32)
    return found


def ranked_gains(scores: FloatArray, gain: FloatArray, cutoff: int, ties: IntArray) -> FloatArray:
    """Return the gains of each user's best candidates, best first, (user, cutoff), from tables (user, candidate).

    Equal scores stand in the order of `ties`, one rank for each candidate column (`tie_order`).
    """
    cutoff = min(cutoff, scores.shape[1])
    # candidates in tie order first: a stable sort then leaves equal scores in it
    order = np.argsort(ties, kind="stable")
    if cutoff < scores.shape[1]:
        rest = scores.shape[1] - cutoff
        floor = np.partition(scores, rest, axis=1)[:, rest]
        kept = scores >= floor[:, None]
        if (
            int(kept.sum()) == len(scores) * cutoff
        ):  # no ties at the last place: as many as wanted are as good as it
            columns = np.nonzero(kept[:, order])[1].reshape(len(scores), cutoff)
            columns = order[columns]
            best = np.take_along_axis(scores, columns, axis=1)
            inside = np.argsort(-best, axis=1, kind="stable")
            return np.take_along_axis(gain, np.take_along_axis(columns, inside, axis=1), axis=1)
    places = order[np.argsort(-scores[:, order], axis=1, kind="stable")[:, :cutoff]]
    return np.take_along_axis(gain, places, axis=1)


def graded_ndcg(ranked: FloatArray, gain: FloatArray) -> FloatArray:
    """Return DCG / ideal DCG of ranked gains, (user, position), where `gain`, (user, candidate), is all there is;
    (user,).

    Linear gains and discount 1 / log2(position + 2), 0-based (Järvelin & Kekäläinen 2002); 0 without a gain.
    """
    positions = ranked.shape[1]
    discount = (1.0 / np.log2(np.arange(positions) + 2.0)).astype(np.float32)
    rest = gain.shape[1] - positions
    best = np.partition(gain, rest, axis=1)[:, rest:] if rest > 0 else gain
    ideal = np.sort(best, axis=1)[:, ::-1] @ discount
    got: FloatArray = np.divide(ranked @ discount, ideal, out=np.zeros_like(ideal), where=ideal > 0)
    return got


def weighted_ndcg(ranked: IntArray, query: QuerySets, gain: FloatArray) -> FloatArray:
    """Return DCG / ideal DCG with the gains of relevant items, (relevant item,) as `query.item`; (user,).

    DCG = Σ gain / log2(position + 2), the ideal list has the largest gains first (Järvelin & Kekäläinen 2002). A user
    without a gain above zero gets 0.
    """
    users = np.repeat(np.arange(len(query), dtype=np.int64), query.sizes)
    width = int(max(ranked.max(initial=0), query.item.max(initial=0))) + 1
    key = users * width + query.item
    order = np.argsort(key)
    shown = np.arange(len(ranked), dtype=np.int64)[:, None] * width + ranked
    place = np.minimum(np.searchsorted(key[order], shown), max(len(key) - 1, 0))
    earned = np.zeros(ranked.shape)
    if len(key):
        found = (key[order][place] == shown) & (ranked >= 0)
        earned[found] = np.asarray(gain, np.float64)[order][place[found]]
    discount = 1.0 / np.log2(np.arange(ranked.shape[1]) + 2.0)
    best = np.lexsort((-gain, users))
    position = np.arange(len(best)) - np.repeat(query.offsets[:-1], query.sizes)
    reached = position < ranked.shape[1]
    ideal = np.bincount(
        users[best][reached], gain[best][reached] * discount[position[reached]], minlength=len(query)
    )
    share: FloatArray = ((earned * discount).sum(axis=1) / np.maximum(ideal, 1e-12)).astype(np.float32)
    return share


def reward_gains(
    query: QuerySets, offsets: LongArray, item: IntArray, reward: FloatArray, width: int
) -> FloatArray:
    """Return what each relevant item earned: its summed reward in its user's query events, at least 0.

    The query events of users lie end to end, `offsets` (user + 1,), items are below `width`; (relevant item,).
    """
    users = np.repeat(np.arange(len(query), dtype=np.int64), query.sizes)
    event_user = np.repeat(np.arange(len(query), dtype=np.int64), np.diff(offsets))
    key, inverse = np.unique(event_user * width + item, return_inverse=True)
    earned = np.bincount(inverse, reward, minlength=len(key))
    place = np.searchsorted(key, users * width + query.item)
    return np.maximum(earned[place], 0.0).astype(np.float32)
