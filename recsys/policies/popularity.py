"""Popularity: the same list for everybody, and what the other baselines fall back on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from recsys.logs.interactions import training_events
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import History
from recsys.policies.policy import Arrays
from recsys.types import BoolArray, FloatArray, LongArray

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True)
class PopularityOptions:
    """What counts as popular."""

    count: Literal["histories", "events"] = "histories"
    half_life_days: float | None = None  # an event this old counts half; None: age does not matter
    window_days: float | None = None  # older events do not count; None: all do
    identified_only: bool = True  # leave anonymous sessions out


PLAIN = PopularityOptions()


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
        weight = (
            np.ones(len(event)) if options.half_life_days is None else 0.5 ** (age / options.half_life_days)
        )
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

    def arrays(self) -> Arrays:
        """Return what is kept: the counts."""
        return {"popularity": self.popularity_}

    def restore(self, arrays: Arrays) -> Self:
        """Take the counts back."""
        self.popularity_ = arrays["popularity"]
        return self


def behind(scores: FloatArray, spoken: BoolArray, popularity: FloatArray) -> FloatArray:
    """Return scores with what nothing speaks for behind the rest of its row, by popularity; (user, item)."""
    floor = np.min(np.where(spoken, scores, np.inf), axis=1, initial=0.0)[:, None]
    share = popularity / max(float(popularity.max(initial=0.0)), 1e-12)
    return np.where(spoken, scores, floor - 2.0 + share).astype(np.float32)
