"""Why items stand where they stand: what each event did to their scores, and how sure the model is.

What an event did is told by leaving it out: pull_e(i) = Q_u(i) − Q_{u∖e}(i), the whole model asked again, so that
state, memory and fast weights are in it together. Pulls of events that say the same do not add up to the shift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.mdp.state import History, empty_history
from recsys.ranker import Ranker
from recsys.types import FloatArray, IntArray

MOST_SOURCES = 12  # items of the history that are left out in turn, the newest; each costs one state


@dataclass(frozen=True)
class Explanation:
    """What is behind the scores of some items; None where what ranks has no such thing."""

    score: FloatArray  # (item,)
    base: FloatArray | None  # Q by the session's state alone, with the prior's weights, (item,)
    deviation: FloatArray | None  # of the posterior, in units of the score, (item,)
    prior_deviation: FloatArray | None  # before any event, (item,)
    sources: IntArray  # items of the history, the newest last, (source,)
    pulls: FloatArray  # what everything done with a source adds to a score, (source, item)


def explain(ranker: Ranker, history: History, items: IntArray) -> Explanation:
    """Return what is behind the scores that a history gives to items."""
    sources = newest_items(history.item, MOST_SOURCES)
    without = [_without(history, int(source)) for source in sources]
    scores = ranker.scores_of([history, *without], items)
    deviation = ranker.deviations(history, items)
    adapts = deviation is not None
    return Explanation(
        scores[0],
        ranker.scores_of([history], items, adapt=False, memory=False)[0] if adapts else None,
        deviation,
        ranker.deviations(empty_history(history.attributes), items) if adapts else None,
        sources,
        scores[0] - scores[1:],
    )


def newest_items(items: IntArray, count: int) -> IntArray:
    """Return the last `count` different items of a history, the newest last."""
    _, backwards = np.unique(items[::-1], return_index=True)
    places = np.sort(len(items) - 1 - backwards)[-count:]
    return items[places]


def strongest(pulls: FloatArray, count: int, least: float) -> Sequence[int]:
    """Return the places of the largest pulls on one item, (source,), by size, without those below a bound."""
    order = np.argsort(-np.abs(pulls), kind="stable")[:count]
    return [int(place) for place in order if abs(float(pulls[place])) >= least]


def _without(history: History, item: int) -> History:
    kept = history.item != item
    return History(
        history.item[kept],
        history.event_type[kept],
        history.reward[kept],
        history.timestamp[kept],
        history.session[kept],
        history.attributes,
    )
