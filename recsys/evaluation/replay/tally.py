"""What a replay reads of a log besides its lists: counts, the items in it, and when each was first shown."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recsys.evaluation.replay.attribution import Attributed
from recsys.evaluation.replay.log import RequestTable
from recsys.evaluation.replay.policies import EvaluationPolicy
from recsys.types import LongArray


@dataclass
class Tally:
    """What was read, and what was left out and why."""

    events: int = 0
    requests: int = 0
    users: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    by_recommendation: int = 0
    by_item: int = 0
    unclaimed: int = 0
    first_time: int = 2**62
    last_time: int = -(2**62)
    reward_total: float = 0.0

    @property
    def left_out(self) -> str:
        """What was left out and why, in an order that does not hang on that of the log."""
        return "; ".join(f"{count:,} {why}" for why, count in sorted(self.dropped.items()))


class Vocabulary:
    """Items of the log by code, in the order in which they are met, and of policies by index."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self.first_shown: dict[int, int] = {}
        self.width = 1  # positions of the longest list
        self.span = (2**62, -(2**62))  # microseconds of the first and last request

    def __len__(self) -> int:
        return len(self._code)

    def codes(self, items: pd.Series) -> LongArray:
        """Return the codes of external ids, (event,)."""
        places, names = pd.factorize(items.to_numpy(object))
        known = np.array([self._code.setdefault(str(name), len(self._code)) for name in names], np.int64)
        return known[places] if len(known) else np.empty(0, np.int64)

    def of_policy(self, policy: EvaluationPolicy) -> LongArray:
        """Return the code of each of a policy's items, (item,); −1 for those that the log does not know."""
        return np.array([self._code.get(item, -1) for item in policy.item_ids], np.int64)


def count(tally: Tally, frame: pd.DataFrame, requests: RequestTable, earned: Attributed) -> None:
    tally.events += len(frame)
    tally.requests += len(requests)
    tally.users += len(set(requests.who))
    tally.dropped.update(requests.dropped)
    tally.by_recommendation += earned.by_recommendation
    tally.by_item += earned.by_item
    tally.unclaimed += earned.unclaimed
    tally.reward_total += float(earned.reward.sum())
    if len(requests):  # what is merely history may be older than the training
        tally.last_time = max(tally.last_time, int(requests.time.max()))
        tally.first_time = min(tally.first_time, int(requests.time.min()))


def note_first_shown(vocabulary: Vocabulary, requests: RequestTable) -> None:
    """Remember when each item was first shown."""
    if not len(requests):
        return
    vocabulary.width = max(vocabulary.width, requests.item.shape[1])
    shown = requests.item >= 0
    times = np.broadcast_to(requests.time[:, None], requests.item.shape)[shown]
    items = requests.item[shown]
    vocabulary.span = (
        min(vocabulary.span[0], int(times.min())),
        max(vocabulary.span[1], int(times.max())),
    )
    order = np.argsort(times, kind="stable")
    first, place = np.unique(items[order], return_index=True)
    for item, time in zip(first.tolist(), times[order][place].tolist(), strict=True):
        vocabulary.first_shown[item] = min(time, vocabulary.first_shown.get(item, time))
