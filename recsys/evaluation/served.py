"""Lists of the served object and of baselines for the same cases: what the tables compare."""

from collections.abc import Callable, Sequence

import numpy as np

from recsys.evaluation.cold_start import ColdCases
from recsys.evaluation.ranking import tie_order, top_items
from recsys.mdp.state import History
from recsys.recommender import Recommender
from recsys.types import FloatArray, IntArray


def served_lists(
    recommender: Recommender,
    cases: ColdCases,
    shots: int,
    count: int,
    *,
    adapt: bool,
    greedy: bool = True,
    on_case: Callable[[], None] = lambda: None,
) -> IntArray:
    """Return what each user is recommended after `shots` events, (user, count), -1 where the list is shorter."""
    lists = np.full((len(cases), count), -1, np.int32)
    for row, (history, excluded) in enumerate(zip(cases.first, cases.excluded, strict=True)):
        given = recommender.recommend(
            history.first(shots), count, seed=row, exclude=excluded.tolist(), adapt=adapt, greedy=greedy
        )
        lists[row, : len(given.items)] = given.items
        on_case()
    return lists


def scored_lists(
    scores: Callable[[list[History]], FloatArray],
    cases: ColdCases,
    shots: int,
    count: int,
    batch_size: int = 256,
) -> IntArray:
    """Return the best items of a policy that scores the whole catalogue, under the same exclusions; (user, count)."""
    support = [history.first(shots) for history in cases.first]
    return ranked_lists(scores, support, cases.excluded, count, batch_size)


def ranked_lists(
    scores: Callable[[list[History]], FloatArray],
    support: Sequence[History],
    excluded: Sequence[IntArray],
    count: int,
    batch_size: int = 256,
) -> IntArray:
    """Return the best items after each support, excluded ones last; (user, count)."""
    lists = []
    for start in range(0, len(support), batch_size):
        rows = slice(start, start + batch_size)
        batch = scores(list(support[rows]))
        banned = np.zeros(batch.shape, bool)
        for row, items in enumerate(excluded[rows]):
            banned[row, items] = True
        lists.append(top_items(batch, banned, count, tie_order(batch.shape[1], seed=0)))
    return np.concatenate(lists)
