"""What ranks inside a Recommender: an adapted student over the index, or a baseline over the whole catalogue.

A ranker answers with its best allowed candidates, best first, equal scores in one fixed seeded order. It knows nothing
of lists, chance or propensities; those are the Recommender's.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from recsys.adaptation import FastWeights, adapt_to_first
from recsys.artifacts.bundle import PolicyBundle, QBundle
from recsys.evaluation.ranking import tie_order
from recsys.evidence import what_to_ask
from recsys.mdp.state import History, StateBatch, encode_states
from recsys.models.q_network import StateVectors, without_memory
from recsys.policies.exploration import spread
from recsys.policies.storage import kind_of
from recsys.types import BoolArray, FloatArray, IntArray, LongArray

ASKED_AMONG = 2_000  # most popular items: few know the others, and every question reads all of these

ServedBy = Literal["adapted", "unadapted", "policy", "popular"]


@dataclass(frozen=True)
class Ranking:
    """The best allowed candidates, best first; both arrays have shape (candidate,)."""

    items: IntArray
    scores: FloatArray
    support_events: int  # events of the history that the scores were adapted to, or made from
    served_by: ServedBy
    unit: float = 1.0  # of the scores, in which the temperature of exploration is given


class Ranker(Protocol):
    """Ranks the catalogue for a history; read-only and safe to share between threads."""

    @property
    def name(self) -> str:
        """What it is called in logs; empty for the student."""
        ...

    @property
    def rungs(self) -> tuple[ServedBy, ...]:
        """Ways in which it can answer, best first."""
        ...

    def ranked(self, history: History, n: int, banned: IntArray, *, adapt: bool) -> Ranking:
        """Return at least n candidates without the banned items; fewer if the catalogue holds no more."""
        ...

    def questions(self, history: History, n: int, banned: IntArray) -> LongArray:
        """Return at most n items whose feedback would teach most about a user, (question,), in the order to ask."""
        ...


class IndexRanker:
    """Q of what the index retrieves for the query [f(s), w_u, 1]."""

    name = ""
    rungs: tuple[ServedBy, ...] = ("adapted", "unadapted")

    def __init__(self, bundle: QBundle) -> None:
        self._bundle = bundle
        self._ties = tie_order(len(bundle.catalogue), seed=0)

    def questions(self, history: History, n: int, banned: IntArray) -> LongArray:
        """Return what to ask by the posterior of the head; how many know an item is how many had it."""
        bundle = self._bundle
        among = best_known(bundle.popularity, bundle.catalogue.available, banned, self._ties)[:ASKED_AMONG]
        with torch.inference_mode():
            learnt = self._adapted(*self._states(history)).learnt()[0].numpy() if len(history) else None
        asked = what_to_ask(
            bundle.table.features[among].numpy(),
            bundle.popularity[among],
            n,
            float(torch.exp(bundle.prior.log_noise)),
            learnt,
        )
        return among[asked]

    def _states(self, history: History) -> tuple[StateBatch, StateVectors]:
        batch = encode_states([history], self._bundle.info.state.max_events)
        return batch, self._bundle.student.state_vectors(batch)

    def _adapted(self, batch: StateBatch, states: StateVectors) -> FastWeights:
        bundle = self._bundle
        return adapt_to_first(batch, states, bundle.table, bundle.prior, batch.lengths, bundle.info.discount)

    def ranked(self, history: History, n: int, banned: IntArray, *, adapt: bool) -> Ranking:
        """Return what was retrieved, by Q."""
        query, support_events = self._query(history, adapt=adapt)
        items, scores = self._candidates(query, n, banned)
        return Ranking(items, scores, support_events, "adapted" if support_events else "unadapted")

    @torch.inference_mode()
    def _query(self, history: History, *, adapt: bool) -> tuple[FloatArray, int]:
        """Return ([f(s), w_u, 1, V(s)], number of support events); the first three rank, V makes them a Q-value.

        Without adaptation the memory's part of f(s) is silent too: what is left is the session's state.
        """
        bundle = self._bundle
        batch, states = self._states(history)
        last = int(batch.lengths[0])
        asked = states.advantage[0, last]
        if adapt and last:
            fast = self._adapted(batch, states).mean[0]
        else:
            fast = bundle.prior.without_support(batch.attributes)[0]
            asked = without_memory(asked, bundle.info.shape.item_features)
        one = torch.ones(1)
        query = torch.cat([asked, fast, one, states.value[0, last, None]])
        return query.numpy(), last if adapt else 0

    def _candidates(self, query: FloatArray, n: int, banned: IntArray) -> tuple[IntArray, FloatArray]:
        """Return the allowed candidates with their Q, best first."""
        catalogue = self._bundle.catalogue
        wanted = max(self._bundle.info.index.candidates, n) + len(banned)
        while True:
            found, products = self._bundle.index.search(query[None, :-1], wanted)
            items, scores = found[0], products[0]
            allowed = (items >= 0) & catalogue.available[items] & ~np.isin(items, banned)
            if int(allowed.sum()) >= n or wanted >= len(catalogue):
                break
            wanted *= 4  # a narrow catalogue: look further down
        items, scores = items[allowed].astype(np.int32), scores[allowed] + query[-1]
        order = np.lexsort((self._ties[items], -scores))
        return items[order], scores[order]


class PolicyRanker:
    """A baseline's scores of every item; there is nothing to adapt, the history is all it reads."""

    rungs: tuple[ServedBy, ...] = ("policy",)

    def __init__(self, bundle: PolicyBundle) -> None:
        self._policy = bundle.policy
        self.name = kind_of(bundle.policy)
        self._available = bundle.catalogue.available
        self._popularity = bundle.popularity
        self._wanted = bundle.info.candidates
        self._ties = tie_order(len(bundle.catalogue), seed=0)

    def questions(self, history: History, n: int, banned: IntArray) -> LongArray:
        """Return the most popular items: a baseline has no posterior, and what most know can be answered."""
        return best_known(self._popularity, self._available, banned, self._ties)[:n]

    def ranked(self, history: History, n: int, banned: IntArray, *, adapt: bool) -> Ranking:
        """Return the best of the catalogue by the policy's scores."""
        allowed = self._available.copy()
        allowed[banned] = False
        items = np.flatnonzero(allowed).astype(np.int32)
        scores = self._policy.scores([history])[0][items]
        count = min(max(self._wanted, n), len(items))
        if 0 < count < len(items):
            # only what is as good as the last place is sorted, ties with it included; NaN stays, to be found unsound
            kept = ~(scores < np.partition(scores, -count)[-count])
            items, scores = items[kept], scores[kept]
        order = np.lexsort((self._ties[items], -scores))[:count]
        items, scores = items[order], scores[order]
        return Ranking(items, scores, len(history), "policy", unit=spread(scores))


def best_known(popularity: FloatArray, available: BoolArray, banned: IntArray, ties: IntArray) -> LongArray:
    """Return the allowed items that anybody had, most popular first, (item,)."""
    allowed = available & (popularity > 0)
    allowed[banned] = False
    items = np.flatnonzero(allowed)
    return items[np.lexsort((ties[items], -popularity[items]))]


def ranker_of(bundle: QBundle | PolicyBundle) -> Ranker:
    """Return what ranks in a bundle."""
    return PolicyRanker(bundle) if isinstance(bundle, PolicyBundle) else IndexRanker(bundle)
