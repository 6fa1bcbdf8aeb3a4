"""Supports as another policy would have logged them, so that a prior is not tied to the policy that made the log.

A log holds what its own policy brought about. Of a task's first events some are kept, each with a chance in proportion
to

    w_j = π'(i_j) / q(i_j),     q(i) how many of the log's histories have item i, as a share

for an imagined policy π': `random` shows every item alike, `popular` prefers popular items more than the log does
(π' ∝ q²), `item_knn` shows what goes together with the user's first event (π' ∝ e^{cos / T}). What is kept, in its
order, is the support; everything else that the user did is what could still be asked for. This is importance
resampling (Rubin 1988) of what a user would have answered: it assumes that shown items would have been taken whenever
they came up, and weights are clipped, so that a rare item is not always the one that is kept.
"""

from dataclasses import dataclass

import numpy as np

from recsys.config import SupportPolicyName
from recsys.types import FloatArray, LongArray

POOL = 4  # times as many events as are kept
LARGEST_WEIGHT = 100.0  # over the smallest
TEMPERATURE = 0.1  # of cosines


@dataclass(frozen=True)
class OtherPolicies:
    """Which share of supports another policy would have logged, and what its propensities are made of."""

    share: float
    names: tuple[SupportPolicyName, ...]
    popularity: FloatArray  # (item,) histories with it
    factors: FloatArray  # (item, feature), co-occurrence

    def weights(
        self, name: SupportPolicyName, item: LongArray, first_item: LongArray, task: LongArray
    ) -> FloatArray:
        """Return log w of events, (event,), from their items, the first item of the user of each, and their tasks.

        Events of a task stand together; a weight is clipped from below by the largest of its task.
        """
        log_share = np.log(self.popularity[item].astype(np.float64) + 1.0)
        if name == "popular":
            log_weight = log_share
        elif name == "random":
            log_weight = -log_share
        else:
            one, other = self.factors[item], self.factors[first_item]
            length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            cosine = (one * other).sum(axis=1) / np.maximum(length, 1e-9)
            log_weight = cosine / TEMPERATURE - log_share
        if not len(task):
            return np.empty(0, np.float32)
        begins = np.flatnonzero(np.diff(task, prepend=-1))
        largest = np.maximum.reduceat(log_weight, begins)
        floor = np.repeat(largest, np.diff(begins, append=len(task))) - np.log(LARGEST_WEIGHT)
        weights: FloatArray = np.maximum(log_weight, floor).astype(np.float32)
        return weights


def kept_events(
    item: np.ndarray[tuple[int, ...], np.dtype[np.integer]],  # of the log, (event,)
    start: LongArray,  # (task,) where each task begins in the log
    available: LongArray,  # (task,) events of each task
    shots: LongArray,  # (task,) to keep, below `available`
    policy: LongArray,  # (task,) place in `others.names`; -1 = the log's own: the first events
    others: OtherPolicies,
    generator: np.random.Generator,
) -> LongArray:
    """Return the places in the log of the kept events, task by task, each task's in time order; (Σ shots,).

    Drawn without replacement by Gumbel's trick (Efraimidis & Spirakis 2006), all tasks at once. The first event is
    always kept: no policy knows anything of a user before it.
    """
    pool = np.where(policy >= 0, np.minimum(POOL * shots, available - 1), shots)
    task = np.repeat(np.arange(len(start)), pool)
    place = np.arange(len(task)) - np.repeat(np.cumsum(pool) - pool, pool)
    event = start[task] + place
    log_weight = np.zeros(len(event), np.float32)
    for number, name in enumerate(others.names):
        rows = policy[task] == number
        log_weight[rows] = others.weights(name, item[event[rows]], item[start[task[rows]]], task[rows])
    luck = log_weight + generator.gumbel(size=len(event))
    luck[place == 0] = np.inf
    by_luck = np.lexsort((-luck, task))
    rank = np.empty(len(event), np.int64)
    rank[by_luck] = place  # places count each task's events from 0, and so do ranks
    kept: LongArray = event[rank < shots[task]]
    return kept
