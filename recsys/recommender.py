"""Rank -> explore: the one object that is evaluated and served, whatever ranks in it (recsys/rankers.py)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys import columns
from recsys.artifacts.bundle import PolicyBundle, QBundle, load_bundle
from recsys.catalogue import Catalogue
from recsys.config import ExplorationConfig, RewardConfig
from recsys.evaluation.ranking import tie_order
from recsys.mdp.reward import rewards
from recsys.mdp.state import History, empty_history
from recsys.policies.exploration import ListDistribution, draw_list, list_distribution, policy_name
from recsys.rankers import ServedBy as ServedBy
from recsys.rankers import ranker_of
from recsys.types import ExternalId, FloatArray, IntArray, LongArray

GREEDY = ExplorationConfig(kind="greedy")
_PER_SECOND = 1_000_000


@dataclass(frozen=True)
class LoggedEvent:
    """One event of a user as the caller or the store knows it."""

    item_id: ExternalId
    event_type: str
    value: float | None
    timestamp: float  # seconds, UTC
    session_id: str | None


@dataclass(frozen=True)
class Recommendation:
    """A served list; all arrays but `candidates` have shape (position,)."""

    items: IntArray
    scores: FloatArray  # adapted Q, or a baseline's own; popularity for a popular list
    propensities: FloatArray  # probability of the item given the state and the items above it
    support_events: int  # events the fast weights were adapted to, or that a baseline read
    served_by: ServedBy
    policy: str  # for example "plackett_luce(temperature=0.02)" or "item_knn/greedy"
    candidates: IntArray  # what could have been shown, best first
    seed: int  # the same history and seed give the same list


class Recommender:
    """One loaded bundle, read-only and safe to share between threads."""

    def __init__(self, bundle: QBundle | PolicyBundle) -> None:
        self._bundle = bundle
        self._ranker = ranker_of(bundle)
        self.ladder: tuple[ServedBy, ...] = (*self._ranker.rungs, "popular")  # ways to answer, best first
        self.catalogue: Catalogue = bundle.catalogue
        self.version: str = bundle.version
        self.event_types: tuple[str, ...] = bundle.info.event_types
        self.reads_impressions: bool = bundle.info.impressions == "actions"  # those without response
        self.feedback_types: tuple[str, ...] = tuple(
            name for name in self.event_types if name != columns.IMPRESSION
        )
        # what a history is made of
        self._type_code = {
            name: code
            for code, name in enumerate(self.event_types)
            if name != columns.IMPRESSION or self.reads_impressions
        }
        self._shown_code = self._type_code.get(columns.IMPRESSION, -1)
        # types whose reward hangs on the value: without one their base alone would say something else
        slopes = bundle.info.reward.per_log_value
        self.needs_value: frozenset[str] = frozenset(
            name for name in self.feedback_types if slopes.get(name, 0.0)
        )
        self._attribute_code = [
            {value: code + 1 for code, value in enumerate(values)} for values in bundle.info.attribute_values
        ]
        ties = tie_order(len(self.catalogue), seed=0)
        self._by_popularity = np.lexsort((ties, -bundle.popularity)).astype(np.int32)
        self._no_attributes = np.zeros(len(self._attribute_code), np.int32)

    def history(self, events: Sequence[LoggedEvent], attributes: dict[str, str] | None = None) -> History:
        """Return the history of events in time order; unknown items and types are left out.

        So are impressions, unless the bundle reads them; then those without response are expected, and no others.
        """
        index_of = self.catalogue.index_of
        known = [e for e in events if e.item_id in index_of and e.event_type in self._type_code]
        coded = self._attributes(attributes)
        if not known:
            return empty_history(coded)
        codes = np.array([self._type_code[event.event_type] for event in known], np.int8)
        values = np.array([np.nan if event.value is None else event.value for event in known], np.float64)
        microseconds = np.array([round(event.timestamp * _PER_SECOND) for event in known], np.int64)
        return History(
            item=np.array([index_of[event.item_id] for event in known], np.int32),
            event_type=codes,
            reward=rewards(self._bundle.info.reward, self.event_types, codes, values),
            timestamp=microseconds // _PER_SECOND,
            session=_session_ordinals(known, microseconds, self._bundle.info.state.session_gap_minutes),
            attributes=coded,
        )

    def recommend(
        self,
        history: History,
        n: int,
        *,
        seed: int,
        exclude: Collection[int] = (),
        exclude_seen: bool = True,
        adapt: bool = True,
        greedy: bool = False,
    ) -> Recommendation:
        """Return n items for a user, best first; fewer if the catalogue left after exclusions is smaller.

        A baseline has nothing to adapt and ignores `adapt`.
        """
        exploration = GREEDY if greedy else self._bundle.info.exploration
        banned = self._banned(history, exclude, exclude_seen=exclude_seen)
        ranking = self._ranker.ranked(history, n, banned, adapt=adapt)
        scaled = ranking.scores / np.float32(ranking.unit)
        places, propensities = draw_list(scaled, n, exploration, np.random.default_rng(seed))
        return Recommendation(
            items=ranking.items[places],
            scores=ranking.scores[places],
            propensities=propensities,
            support_events=ranking.support_events,
            served_by=ranking.served_by,
            policy=policy_name(exploration, self._ranker.name),
            candidates=ranking.items,
            seed=seed,
        )

    def distribution(
        self,
        history: History,
        n: int,
        *,
        exclude: Collection[int] = (),
        exclude_seen: bool = True,
        adapt: bool = True,
        greedy: bool = False,
    ) -> ListDistribution:
        """Return what `recommend` draws its lists from, for the same arguments."""
        exploration = GREEDY if greedy else self._bundle.info.exploration
        banned = self._banned(history, exclude, exclude_seen=exclude_seen)
        ranking = self._ranker.ranked(history, n, banned, adapt=adapt)
        return list_distribution(ranking.scores / np.float32(ranking.unit), ranking.items, exploration)

    def _banned(self, history: History, exclude: Collection[int], *, exclude_seen: bool) -> IntArray:
        """Return the items that must not be shown."""
        banned = np.unique(np.fromiter(exclude, np.int32, len(exclude)))
        if not exclude_seen:
            return banned
        had = history.item[history.event_type != self._shown_code]  # what was merely shown may come again
        return np.union1d(banned, had).astype(np.int32)

    @property
    def reward(self) -> RewardConfig:
        """What events are worth to what was learnt."""
        return self._bundle.info.reward

    def what_to_ask(self, history: History, n: int) -> LongArray:
        """Return at most n items whose feedback would teach most about a user, (question,), in the order to ask.

        What the user has had is not among them.
        """
        return self._ranker.questions(history, n, np.unique(history.item))

    def popular(self, n: int, *, seed: int, exclude: Collection[int] = ()) -> Recommendation:
        """Return the most popular available items: the last rung of the ladder, which needs no network."""
        allowed = self.catalogue.available.copy()
        allowed[np.fromiter(exclude, np.int64, len(exclude))] = False
        items = self._by_popularity[allowed[self._by_popularity]][:n]
        return Recommendation(
            items=items,
            scores=self._bundle.popularity[items],
            propensities=np.ones(len(items), np.float32),
            support_events=0,
            served_by="popular",
            policy="popular",
            candidates=items,
            seed=seed,
        )

    def _attributes(self, attributes: dict[str, str] | None) -> IntArray:
        if not attributes:
            return self._no_attributes
        names = self._bundle.info.attributes
        coded = [
            table.get(attributes[name], table.get(columns.OTHER, 0)) if name in attributes else 0
            for name, table in zip(names, self._attribute_code, strict=True)
        ]
        return np.array(coded, np.int32)


def _session_ordinals(events: Sequence[LoggedEvent], times: LongArray, gap_minutes: float) -> IntArray:
    """Number sessions as the log does: a new one where the caller's session changes or, without one, after a pause."""
    paused = np.diff(times, prepend=times[:1]) > gap_minutes * 60 * _PER_SECOND
    named = [event.session_id for event in events]
    changed = [
        previous != current if previous is not None or current is not None else bool(pause)
        for previous, current, pause in zip(named, named[1:], paused[1:], strict=False)
    ]
    return np.cumsum(np.array([False, *changed])).astype(np.int32)


def load_recommender(folder: Path) -> Recommender:
    """Load a bundle for serving; raises UserError if the folder holds none."""
    return Recommender(load_bundle(folder))
