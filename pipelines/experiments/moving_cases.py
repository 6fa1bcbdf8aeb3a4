"""Questions about held-out users around a moment, and the answers of bundles that number items differently.

All questions are asked in the indices of one prepared log; a bundle is asked and answers through external ids. An
item that a bundle does not know falls out of what it is told and cannot be in its list, but it stays in the query.
Attributes are hidden: their codes differ from bundle to bundle.
"""

from dataclasses import dataclass, replace

import numpy as np

from recsys.evaluation.cold_start import history_of
from recsys.evaluation.ranking import QuerySets, hits, ndcg
from recsys.logs.prepared import PreparedLog, Role
from recsys.mdp.state import History
from recsys.recommender import Recommender
from recsys.types import ExternalId, FloatArray, IntArray


@dataclass(frozen=True)
class Asked:
    """Users with what is told of them and what they did next."""

    name: str
    support: tuple[History, ...]
    query: QuerySets

    def __len__(self) -> int:
        return len(self.support)


def around(log: PreparedLog, role: Role, moment_s: int, max_users: int, seed: int) -> dict[str, Asked]:
    """Return questions about held-out users on both sides of a moment, in seconds.

    old k     after k first events, before the moment: what they did later, but before it
    new k     users first seen since, after k first events: what they did later
    return    users of before, with all they did before: what new things they did since
    """
    chance = np.random.default_rng(seed)
    parts: dict[str, list[tuple[History, IntArray]]] = {}
    shots = (0, 1, 3, 5, 10)
    users = {"old": 0, "new": 0, "return": 0}
    for index in chance.permutation(log.with_role(role)).tolist():
        history = history_of(log, index)
        split = int(np.searchsorted(history.timestamp, moment_s))
        before, since = history.first(split), history.last(len(history) - split)
        for kind, part in (("old", before), ("new", since if split == 0 else before.first(0))):
            if len(part) > max(shots) and users[kind] < max_users:
                wanted = _wanted(part, max(shots))
                if len(wanted):
                    users[kind] += 1
                    for k in shots:
                        parts.setdefault(f"{kind} {k}", []).append((part.first(k), wanted))
        if split and len(since) and users["return"] < max_users:
            wanted = _wanted(history, split)
            if len(wanted):
                users["return"] += 1
                parts.setdefault("return", []).append((before, wanted))
    return {
        name: Asked(
            name, tuple(_plain(history) for history, _ in rows), QuerySets.of([query for _, query in rows])
        )
        for name, rows in parts.items()
    }


def answers(
    recommender: Recommender, own_ids: tuple[ExternalId, ...], ids: tuple[ExternalId, ...], asked: Asked
) -> FloatArray:
    """Return NDCG@10 of a bundle's greedy, adapted lists, (user,); `ids` number the questions, `own_ids` the bundle."""
    known = {item: index for index, item in enumerate(own_ids)}
    there = np.array([known.get(item, -1) for item in ids], np.int32)  # of the questions -> of the bundle
    place = {item: index for index, item in enumerate(ids)}
    back = np.array([place.get(item, -1) for item in own_ids], np.int32)
    width = len(recommender.history([], {}).attributes)
    lists = np.full((len(asked), 10), -1, np.int32)
    for row, history in enumerate(asked.support):
        mapped = _mapped(history, there, width)
        shown = recommender.recommend(mapped, 10, seed=row, greedy=True)
        lists[row, : len(shown.items)] = back[shown.items]
    return ndcg(hits(lists, asked.query), asked.query.sizes)


def _wanted(history: History, told: int) -> IntArray:
    """Return the rewarded items after some events that are not among them."""
    had = np.unique(history.item[:told])
    later = history.item[told:][history.reward[told:] > 0]
    return np.setdiff1d(later, had).astype(np.int32)


def _plain(history: History) -> History:
    return replace(history, attributes=np.zeros(0, np.int32))


def _mapped(history: History, there: IntArray, attributes: int) -> History:
    item = there[history.item]
    kept = item >= 0
    return History(
        item[kept],
        history.event_type[kept],
        history.reward[kept],
        history.timestamp[kept],
        history.session[kept],
        np.zeros(attributes, np.int32),
    )
