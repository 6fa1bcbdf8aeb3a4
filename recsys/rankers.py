"""What ranks inside a Recommender: an adapted student over the index, or a baseline over the whole catalogue.

A ranker answers with its best allowed candidates, best first, equal scores in one fixed seeded order. It knows nothing
of lists, chance or propensities; those are the Recommender's.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from recsys.artifacts.bundle import PolicyBundle, QBundle
from recsys.candidates.content import Likeness
from recsys.evaluation.ranking import tie_order
from recsys.evidence import what_to_ask
from recsys.growing_table import GrowingTable
from recsys.live_catalogue import LiveCatalogue
from recsys.mdp.state import History
from recsys.policies.exploration import spread
from recsys.policies.storage import kind_of
from recsys.ranker import Allowed, Depth, Ranker, Ranking, ServedBy
from recsys.request_form import RequestForm
from recsys.types import BoolArray, FloatArray, IntArray, LongArray

KEPT_QUERIES = 4_096  # a query is a few hundred numbers
ASKED_AMONG = 2_000  # most popular items: few know the others, and every question reads all of these
SCANNED = (
    4  # times the candidates asked for: as few allowed items as this are scored one by one, without the index
)


class IndexRanker:
    """Q of what the index retrieves for the query [f(s), w_u, 1]."""

    name = ""
    rungs: tuple[ServedBy, ...] = ("adapted", "unadapted")

    def __init__(self, bundle: QBundle, catalogue: LiveCatalogue) -> None:
        self._bundle, self._catalogue = bundle, catalogue
        self._table = GrowingTable(bundle)
        self._form = RequestForm(
            bundle.student, bundle.prior, bundle.table, bundle.info.state.max_events, bundle.info.discount
        )
        self._ties = tie_order(len(bundle.catalogue), seed=0)
        self._known: OrderedDict[tuple[object, ...], tuple[FloatArray, int]] = OrderedDict()
        self.remembered = KEPT_QUERIES

    def put(self, index: int, like: Likeness) -> None:
        """Add a row behind the bundle's table; the index stays as it is."""
        table = self._table
        table.put(index, like)
        self._form.show(table.vectors, table.bias, table.features)
        self._known.clear()
        self._ties = np.append(self._ties, np.arange(len(self._ties), index + 1, dtype=np.int32))

    def directions(self, items: IntArray) -> FloatArray:
        """Return what the vectors and the co-occurrence features say together."""
        return self._table.directions(items)

    def questions(self, history: History, n: int, banned: IntArray) -> LongArray:
        """Return what to ask by the posterior of the head; how many know an item is how many had it."""
        bundle = self._bundle
        available = self._catalogue.available[: len(bundle.popularity)]
        among = best_known(bundle.popularity, available, banned, self._ties)[:ASKED_AMONG]
        learnt = self._form.adapted(history).learnt() if len(history) else None
        asked = what_to_ask(
            self._table.features[among],
            bundle.popularity[among],
            n,
            float(bundle.prior.log_noise.exp()),
            learnt,
        )
        return among[asked]

    def scores_of(
        self, histories: Sequence[History], items: IntArray, *, adapt: bool = True, memory: bool = True
    ) -> FloatArray:
        """Return Q of items after each history, (history, item)."""
        queries = [self._form.query(history, adapt=adapt, memory=memory)[0] for history in histories]
        return np.stack([self._table.scores(items, query[:-1]) + query[-1] for query in queries])

    def deviations(self, history: History, items: IntArray) -> FloatArray:
        """Return √(φᵀΣφ); the session's state and the item's vector are taken as known."""
        features = self._table.features[items]
        variance = (features**2).sum(axis=1)
        if len(history):
            variance = variance - ((features @ self._form.adapted(history).learnt().T) ** 2).sum(axis=1)
        deviations: FloatArray = np.sqrt(np.maximum(variance, 0.0))
        return deviations

    def ranked(self, history: History, n: int, banned: IntArray, allowed: Allowed, depth: Depth) -> Ranking:
        """Return what was retrieved, by Q."""
        query, support_events, deviations = self._query(history, depth)
        items, scores = self._candidates(query, n, banned, allowed)
        samples = None
        if deviations is not None:
            samples = scores[None] + deviations @ self._table.features[items].T
        served_by: ServedBy = "adapted" if support_events else "unadapted"
        return Ranking(items, scores, support_events, served_by, samples=samples)

    def _query(self, history: History, depth: Depth) -> tuple[FloatArray, int, FloatArray | None]:
        """Return what `_asked` does; a user who has done nothing since the last list is not computed anew.

        The key is the history itself, so nothing kept can be out of date, and no user stands in it.
        """
        if depth.samples or not self.remembered:
            return self._asked(history, depth)
        parts = (history.item, history.event_type, history.reward, history.timestamp, history.session)
        key = (depth.adapt, depth.memory, *(part.tobytes() for part in parts), history.attributes.tobytes())
        found = self._known.get(key)
        if found is None:
            query, support_events, _ = self._asked(history, depth)
            found = self._known[key] = query, support_events
            if len(self._known) > self.remembered:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return *found, None

    def _asked(self, history: History, depth: Depth) -> tuple[FloatArray, int, FloatArray | None]:
        """Return ([f(s), w_u, 1, V(s)], number of support events, draws of w_u − its mean)."""
        query, fast = self._form.query(history, adapt=depth.adapt, memory=depth.memory)
        support_events = min(len(history), self._form.max_events) if depth.adapt else 0
        if not depth.samples:
            return query, support_events, None
        generator = np.random.default_rng([depth.seed, 1])  # not the stream that draws the list
        if fast is not None:
            return query, support_events, fast.deviations(depth.samples, generator)
        drawn = generator.standard_normal((depth.samples, self._table.features.shape[1]))
        return query, support_events, drawn.astype(np.float32)

    def _candidates(
        self, query: FloatArray, n: int, banned: IntArray, allowed: Allowed
    ) -> tuple[IntArray, FloatArray]:
        """Return the best allowed candidates with their Q, best first."""
        table, index = self._table, self._bundle.index
        kept = max(self._bundle.info.index.candidates, n)
        wanted = kept + len(banned)
        if allowed.count <= SCANNED * wanted:
            items = np.setdiff1d(allowed.items, banned)
            return self._best(items, table.scores(items, query[:-1]) + query[-1], kept)
        only = None if allowed.everything else allowed.mask
        found, products = index.search(query[None, :-1], wanted, only)
        items, scores = found[0], products[0]
        added = (
            allowed.items[np.searchsorted(allowed.items, len(index)) :] if table.items > len(index) else None
        )
        if added is not None and len(added):
            items = np.concatenate([items, added])
            scores = np.concatenate([scores, table.scores(added, query[:-1])])
        real = (items >= 0) & ~among(items, banned)
        if int(real.sum()) < min(
            n, allowed.count - len(banned)
        ):  # the index's effort does not reach that far
            items = np.setdiff1d(allowed.items, banned)
            return self._best(items, table.scores(items, query[:-1]) + query[-1], kept)
        return self._best(items[real].astype(np.int32), scores[real] + query[-1], kept + len(banned))

    def _best(self, items: IntArray, scores: FloatArray, kept: int) -> tuple[IntArray, FloatArray]:
        if kept < len(items):
            # only what is as good as the last place is sorted, ties with it included; NaN stays, to be found unsound
            good = ~(scores < np.partition(scores, -kept)[-kept])
            items, scores = items[good], scores[good]
        if (
            len(scores) > 1 and not (scores[1:] < scores[:-1]).all()
        ):  # an index answers best first, but not ties in order
            order = np.lexsort((self._ties[items], -scores))
            items, scores = items[order], scores[order]
        return items[:kept], scores[:kept]


class PolicyRanker:
    """A baseline's scores of every item; there is nothing to adapt, the history is all it reads."""

    rungs: tuple[ServedBy, ...] = ("policy",)

    def __init__(self, bundle: PolicyBundle, catalogue: LiveCatalogue) -> None:
        self._policy = bundle.policy
        self.name = kind_of(bundle.policy)
        self._catalogue = catalogue
        self._popularity = bundle.popularity
        self._wanted = bundle.info.candidates
        self._ties = tie_order(len(bundle.catalogue), seed=0)
        self._added: dict[int, Likeness] = {}

    def put(self, index: int, like: Likeness) -> None:
        """Score an added item as the mean of those that it is like."""
        self._added[index] = like
        self._ties = np.append(self._ties, np.arange(len(self._ties), index + 1, dtype=np.int32))

    def directions(self, items: IntArray) -> FloatArray | None:
        """Return nothing: a baseline has no vectors."""
        return None

    def questions(self, history: History, n: int, banned: IntArray) -> LongArray:
        """Return the most popular items: a baseline has no posterior, and what most know can be answered."""
        available = self._catalogue.available[: len(self._popularity)]
        return best_known(self._popularity, available, banned, self._ties)[:n]

    def scores_of(
        self, histories: Sequence[History], items: IntArray, *, adapt: bool = True, memory: bool = True
    ) -> FloatArray:
        """Return the policy's scores of items; there is neither adaptation nor memory to leave out."""
        return np.stack([self._scores(history)[items] for history in histories])

    def deviations(self, history: History, items: IntArray) -> FloatArray | None:
        """Return nothing: a baseline has no posterior."""
        return None

    def ranked(self, history: History, n: int, banned: IntArray, allowed: Allowed, depth: Depth) -> Ranking:
        """Return the best of the catalogue by the policy's scores."""
        mask = allowed.mask.copy()
        mask[banned] = False
        items = np.flatnonzero(mask).astype(np.int32)
        scores = self._scores(history)[items]
        count = min(max(self._wanted, n), len(items))
        if 0 < count < len(items):
            # only what is as good as the last place is sorted, ties with it included; NaN stays, to be found unsound
            kept = ~(scores < np.partition(scores, -count)[-count])
            items, scores = items[kept], scores[kept]
        order = np.lexsort((self._ties[items], -scores))[:count]
        items, scores = items[order], scores[order]
        return Ranking(items, scores, len(history), "policy", unit=spread(scores))

    def _scores(self, history: History) -> FloatArray:
        if not self._added:
            plain: FloatArray = self._policy.scores([history])[0]
            return plain
        base = len(self._popularity)
        known = np.array(
            [int(self._added[item].items[0]) if item >= base else item for item in history.item.tolist()],
            np.int32,
        )  # what an added item is most like stands for it
        scores = self._policy.scores([_with_items(history, known)])[0]
        added = [
            scores[self._added[index].items] @ self._added[index].weights for index in sorted(self._added)
        ]
        extended: FloatArray = np.concatenate([scores, np.array(added, scores.dtype)])
        return extended


def _with_items(history: History, items: IntArray) -> History:
    return History(
        items, history.event_type, history.reward, history.timestamp, history.session, history.attributes
    )


def among(items: LongArray | IntArray, banned: IntArray) -> BoolArray:
    """Return which items are banned, (item,); `banned` ascends."""
    if not len(banned):
        return np.zeros(len(items), bool)
    place = np.minimum(banned.searchsorted(items), len(banned) - 1)
    found: BoolArray = banned[place] == items
    return found


def best_known(popularity: FloatArray, available: BoolArray, banned: IntArray, ties: IntArray) -> LongArray:
    """Return the allowed items that anybody had, most popular first, (item,)."""
    allowed = available & (popularity > 0)
    allowed[banned[banned < len(allowed)]] = False
    items = np.flatnonzero(allowed)
    return items[np.lexsort((ties[items], -popularity[items]))]


def ranker_of(bundle: QBundle | PolicyBundle, catalogue: LiveCatalogue) -> Ranker:
    """Return what ranks in a bundle."""
    return (
        PolicyRanker(bundle, catalogue)
        if isinstance(bundle, PolicyBundle)
        else IndexRanker(bundle, catalogue)
    )
