"""Lists of the store as the live estimate holds them: who was shown what with which chance, and what came of it.

A list whose line has gone from the store, with its user, goes too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.columns import IMPRESSION
from recsys.config import RewardConfig
from recsys.evaluation.live import LiveLists
from recsys.logs.live_tables import NOBODY
from recsys.mdp.reward import rewards
from recsys.recommender import Recommender
from recsys.types import LongArray, RealArray
from serving.event_log import Impression
from serving.store import EventRow

WINDOW_S = 86_400.0  # a response counts for a list for so long


@dataclass
class ServedList:
    """One list."""

    line: Impression
    reward: RealArray  # (position,)
    chosen: dict[str, RealArray] = field(default_factory=dict)  # by version, (position,)

    @property
    def responded(self) -> bool:
        """Whether it has earned anything."""
        return bool(self.reward.any())


def why_not(line: Impression) -> str | None:
    """Return why a list cannot be replayed; None if it can."""
    if not line.events_kept:
        return "for sessions whose events are not kept"
    if line.ask.user in ("", NOBODY):
        return "for nobody"
    if line.served_by == "popular":
        return "popular ones, drawn without chance"
    if not line.item_ids:
        return "empty"
    return None


def chances(recommender: Recommender, line: Impression) -> RealArray:
    """Return how likely a model would have put each shown item there given those above, (position,)."""
    ask, index_of = line.ask, recommender.catalogue.index_of
    exclude = {index_of[item] for item in ask.exclude if item in index_of}
    distribution = recommender.distribution(
        recommender.history(ask.events, ask.attributes or None),
        ask.n,
        seed=ask.seed,
        exclude=exclude,
        exclude_seen=ask.exclude_seen,
        allowed=recommender.allowed(ask.wanted, ask.among),
    )
    shown = np.array([index_of.get(item, -1) for item in line.item_ids], np.int32)
    return distribution.propensities(shown)


def drawn_by(line: Impression) -> str:
    """Return the version whose own policy drew a list; "" where a variant's exploration or a lower rung did."""
    own = line.ask.exploration is None and line.ask.rung in ("adapted", "policy")
    return line.model if own else ""


def earned(
    line: Impression, events: Sequence[EventRow], config: RewardConfig, types: Sequence[str]
) -> RealArray:
    """Return what the events that name a list have earned at its positions, (position,)."""
    place = {item: position for position, item in enumerate(line.item_ids)}
    code = {name: number for number, name in enumerate(types)}
    named = [
        event
        for event in events
        if event.recommendation_id == line.recommendation_id
        and event.item_id in place
        and event.event_type in code
        and event.event_type != IMPRESSION
        and 0 <= event.timestamp_us - line.timestamp_us <= WINDOW_S * 1e6
    ]
    total: RealArray = np.zeros(len(line.item_ids))
    if named:
        codes = np.array([code[event.event_type] for event in named], np.int8)
        values = np.array([np.nan if event.value is None else event.value for event in named])
        worth = rewards(config, types, codes, values)
        np.add.at(total, [place[event.item_id] for event in named], worth)
    return total


def stacked(lists: Sequence[ServedList], policies: Mapping[str, str]) -> LiveLists:
    """Return lists as arrays; `policies` names the version of each policy."""
    width = max(len(one.reward) for one in lists)

    def padded(rows: Sequence[Sequence[float] | RealArray], beyond: float) -> RealArray:
        table: RealArray = np.full((len(rows), width), beyond)
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        return table

    users = {one.line.ask.user for one in lists}
    number = {user: place for place, user in enumerate(sorted(users))}
    length: LongArray = np.array([len(one.reward) for one in lists], np.int64)
    return LiveLists(
        padded([one.reward for one in lists], 0.0),
        np.minimum(padded([one.line.propensities for one in lists], 1.0), 1.0),
        {name: padded([one.chosen[version] for one in lists], 1.0) for name, version in policies.items()},
        length,
        np.array([number[one.line.ask.user] for one in lists], np.int64),
        [drawn_by(one.line) for one in lists],
    )
