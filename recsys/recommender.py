"""Rank -> explore: the one object that is evaluated and served, whatever ranks in it (recsys/rankers.py)."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recsys import columns
from recsys.artifacts.bundle import PolicyBundle, QBundle, load_bundle
from recsys.candidates.content import ContentNeighbours, Likeness, category_directions
from recsys.candidates.filters import ItemFilter, filter_key, mask_of, only
from recsys.config import ExplorationConfig, RewardConfig
from recsys.evaluation.ranking import tie_order
from recsys.live_catalogue import LiveCatalogue, content_of
from recsys.logged_event import PER_SECOND, AttributeCodes, session_ordinals
from recsys.logged_event import LoggedEvent as LoggedEvent
from recsys.mdp.reward import RewardTable
from recsys.mdp.state import History, empty_history
from recsys.policies.exploration import ListDistribution, draw_list, policy_name
from recsys.ranker import Allowed, Depth
from recsys.ranker import Recommendation as Recommendation
from recsys.ranker import ServedBy as ServedBy
from recsys.rankers import IndexRanker, ranker_of
from recsys.types import ExternalId, FloatArray, IntArray, LongArray

GREEDY = ExplorationConfig(kind="greedy")
_KEPT_FILTERS = 256  # masks of filters; a mask is a byte an item
_WORTH_TELLING = 0.3  # likeness
_POPULAR = 0.95  # share of items that a popular one leaves behind


class Recommender:
    """One loaded bundle and the changes of its catalogue since; who ranks and who changes share one thread."""

    def __init__(self, bundle: QBundle | PolicyBundle) -> None:
        self._bundle = bundle
        self.catalogue = LiveCatalogue(bundle.catalogue)
        self.ranker = ranker_of(bundle, self.catalogue)
        self.ladder: tuple[ServedBy, ...] = (*self.ranker.rungs, "popular")  # ways to answer, best first
        self.version: str = bundle.version
        self.exploration: ExplorationConfig = bundle.info.exploration
        self.event_types: tuple[str, ...] = bundle.info.event_types
        self.attributes: tuple[str, ...] = bundle.info.attributes  # of users, that a history knows
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
        self._reward = RewardTable.of(bundle.info.reward, self.event_types)
        # types whose reward hangs on the value: without one their base alone would say something else
        slopes = bundle.info.reward.per_log_value
        self.needs_value: frozenset[str] = frozenset(
            name for name in self.feedback_types if slopes.get(name, 0.0)
        )
        self._attributes = AttributeCodes(bundle.info.attributes, bundle.info.attribute_values)
        ties = tie_order(len(self.catalogue), seed=0)
        self._by_popularity = np.lexsort((ties, -bundle.popularity)).astype(np.int32)
        self._allowed: OrderedDict[str | None, Allowed] = OrderedDict()

    def remember(self, users: int) -> None:
        """Keep the adapted state of so many users until they do something."""
        if isinstance(self.ranker, IndexRanker):
            self.ranker.remembered = users

    @cached_property
    def content(self) -> ContentNeighbours:
        """What the bundle's items are like; seconds of work for a large catalogue, so not for the request path."""
        return ContentNeighbours(self._bundle.catalogue)

    def likeness(self, item_id: ExternalId, fields: Mapping[str, Any]) -> Likeness | None:
        """Return what an item that the bundle does not know is like; None for an item of the bundle."""
        if self._bundle.catalogue.index_of.get(item_id) is not None:
            return None
        return self.content.like(*content_of(fields))

    def change(
        self, revision: int, item_id: ExternalId, fields: Mapping[str, Any], like: Likeness | None
    ) -> None:
        """Let an item be as `fields` say from now on; `like` is its `likeness`."""
        known = self.catalogue.fields(item_id) if like is not None else None
        index = self.catalogue.put(item_id, fields)
        if like is not None and (known is None or content_of(known) != content_of(fields)):
            self.ranker.put(index, like)
        self.catalogue.revision = max(self.catalogue.revision, revision)
        self._allowed.clear()

    def unchanged(self) -> "Recommender":
        """Return a recommender of the same bundle, whose catalogue is the bundle's own."""
        return Recommender(self._bundle)

    def allowed(self, wanted: ItemFilter | None = None, among: Sequence[ExternalId] | None = None) -> Allowed:
        """Return which items may be shown: the available ones, those of a filter, or the caller's own candidates.

        The caller's candidates need not be available, unless a filter says so besides.
        """
        if among is not None:
            mask = only(self.catalogue, among)
            return Allowed(mask & self.allowed(wanted).mask if wanted is not None else mask)
        key = filter_key(wanted)
        found = self._allowed.get(key)
        if found is None:
            mask = self.catalogue.available.copy() if wanted is None else mask_of(self.catalogue, wanted)
            found = self._allowed[key] = Allowed(mask)
            if len(self._allowed) > _KEPT_FILTERS:
                self._allowed.popitem(last=False)
        else:
            self._allowed.move_to_end(key)
        return found

    def history(self, events: Sequence[LoggedEvent], attributes: dict[str, str] | None = None) -> History:
        """Return the history of events in time order; unknown items and types are left out.

        So are impressions, unless the bundle reads them; then those without response are expected, and no others.
        """
        index_of, type_code = self.catalogue.index_of, self._type_code
        known = [e for e in events if e.item_id in index_of and e.event_type in type_code]
        coded = self._attributes.of(attributes)
        if not known:
            return empty_history(coded)
        items, types, values, seconds, sessions = zip(*known, strict=True)
        codes = np.array([type_code[name] for name in types], np.int8)
        microseconds = np.rint(np.array(seconds, np.float64) * PER_SECOND).astype(np.int64)
        return History(
            item=np.array([index_of[item] for item in items], np.int32),
            event_type=codes,
            reward=self._reward.rewards(codes, np.array(values, np.float64)),  # none is NaN
            timestamp=microseconds // PER_SECOND,
            session=session_ordinals(sessions, microseconds, self._bundle.info.state.session_gap_minutes),
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
        memory: bool | None = None,
        exploration: ExplorationConfig | None = None,
        allowed: Allowed | None = None,
    ) -> Recommendation:
        """Return n items for a user, best first; fewer if what is allowed and not excluded is fewer.

        Without adaptation the memory's part of the state is silent too, unless `memory` is true. A baseline has
        nothing to adapt and ignores both. `exploration` stands in for the bundle's own.
        """
        policy = GREEDY if greedy else exploration or self.exploration
        banned = self._banned(history, exclude, exclude_seen=exclude_seen)
        depth = _depth(policy, seed, adapt=adapt, memory=memory)
        ranking = self.ranker.ranked(history, n, banned, allowed or self.allowed(), depth)
        unit = np.float32(ranking.unit)
        places, propensities = draw_list(
            ranking.scores / unit,
            n,
            policy,
            np.random.default_rng(seed),
            None if ranking.samples is None else ranking.samples / unit,
            self._directions(ranking.items) if policy.diversity else None,
        )
        return Recommendation(
            items=ranking.items[places],
            scores=ranking.scores[places],
            propensities=propensities,
            support_events=ranking.support_events,
            served_by=ranking.served_by,
            policy=policy_name(policy, self.ranker.name, sampled=ranking.samples is not None),
            candidates=ranking.items,
            seed=seed,
        )

    def distribution(
        self,
        history: History,
        n: int,
        *,
        seed: int = 0,
        exclude: Collection[int] = (),
        exclude_seen: bool = True,
        adapt: bool = True,
        greedy: bool = False,
        memory: bool | None = None,
        exploration: ExplorationConfig | None = None,
        allowed: Allowed | None = None,
    ) -> ListDistribution:
        """Return what `recommend` draws its lists from, for the same arguments.

        The seed matters where draws of the posterior belong to the policy.
        """
        policy = GREEDY if greedy else exploration or self.exploration
        banned = self._banned(history, exclude, exclude_seen=exclude_seen)
        depth = _depth(policy, seed, adapt=adapt, memory=memory)
        ranking = self.ranker.ranked(history, n, banned, allowed or self.allowed(), depth)
        scores = ranking.scores[None] if ranking.samples is None else ranking.samples
        # in the precision in which lists are drawn: ties, and with them draws, hang on it
        return ListDistribution(
            ranking.items,
            (scores / np.float32(ranking.unit)).astype(np.float64),
            policy,
            self._directions(ranking.items) if policy.diversity else None,
        )

    @property
    def reward(self) -> RewardConfig:
        """What events are worth to what was learnt."""
        return self._bundle.info.reward

    def _banned(self, history: History, exclude: Collection[int], *, exclude_seen: bool) -> IntArray:
        """Return the items that must not be shown."""
        banned = set(exclude)
        if exclude_seen:
            had = history.item
            if self._shown_code >= 0:  # what was merely shown may come again
                had = had[history.event_type != self._shown_code]
            banned.update(had.tolist())
        return np.array(sorted(banned), np.int32)

    def similar(self, item: int, n: int, allowed: Allowed | None = None) -> tuple[IntArray, FloatArray]:
        """Return the items most like one, best first, with their likeness; both (item,).

        By what the ranker knows of items: vectors and co-occurrence of a student, else categories. What has nothing in
        common with the item is left out. Reads the whole catalogue, so it is not for the event loop.
        """
        among = (allowed or self.allowed()).items
        among = among[among != item]
        likeness = self._alike(among, np.array([item], np.int32))[:, 0]
        among, likeness = among[likeness != 0.0], likeness[likeness != 0.0]
        order = np.argsort(-likeness, kind="stable")[:n]
        return among[order], likeness[order].astype(np.float32)

    def reasons(self, history: History, items: IntArray) -> list[list[dict[str, Any]]]:
        """Return why items stand in a list: which item of the history each is most like, and what both share."""
        liked = np.unique(history.item[history.reward > 0])
        catalogue = self.catalogue
        found: list[list[dict[str, Any]]] = []
        products = self._alike(items, liked) if len(liked) else None
        for row, item in enumerate(items.tolist()):
            reasons: list[dict[str, Any]] = []
            if products is not None:
                nearest = int(products[row].argmax())
                if (likeness := float(products[row, nearest])) > _WORTH_TELLING:
                    shared = set(catalogue.categories[item]) & set(catalogue.categories[int(liked[nearest])])
                    reasons.append(
                        {
                            "kind": "similar_to",
                            "item_id": catalogue.item_ids[int(liked[nearest])],
                            "weight": round(likeness, 4),
                            "categories": sorted(shared),
                        }
                    )
            if item >= catalogue.base_items:
                reasons.append({"kind": "new"})
            elif self._popular_share[item] >= _POPULAR:
                reasons.append({"kind": "popular", "weight": round(float(self._popular_share[item]), 4)})
            found.append(reasons or [{"kind": "ranked"}])
        return found

    def what_to_ask(self, history: History, n: int) -> LongArray:
        """Return at most n items whose feedback would teach most about a user, (question,), in the order to ask.

        What the user has had is not among them.
        """
        return self.ranker.questions(history, n, np.unique(history.item))

    def popular(
        self, n: int, *, seed: int, exclude: Collection[int] = (), allowed: Allowed | None = None
    ) -> Recommendation:
        """Return the most popular allowed items: the last rung of the ladder, which needs no network."""
        mask = (allowed or self.allowed()).mask.copy()
        mask[np.fromiter(exclude, np.int64, len(exclude))] = False
        base = self.catalogue.base_items
        order = self._by_popularity
        if len(mask) > base:  # nobody had what came since
            order = np.concatenate([order, np.arange(base, len(mask), dtype=np.int32)])
        candidates = order[mask[order]]
        items = candidates[:n]
        scores = np.zeros(len(items), np.float32)
        scores[items < base] = self._bundle.popularity[items[items < base]]
        return Recommendation(
            items=items,
            scores=scores,
            propensities=np.ones(len(items), np.float32),
            support_events=0,
            served_by="popular",
            policy="popular",
            candidates=items,
            seed=seed,
        )

    @cached_property
    def _popular_share(self) -> FloatArray:
        """Share of the bundle's items that are less popular than each, (item,)."""
        share = np.empty(len(self._by_popularity), np.float32)
        share[self._by_popularity] = np.linspace(1.0, 0.0, len(share))
        return share

    def _alike(self, one: IntArray, other: IntArray) -> FloatArray:
        """Return how alike items are, (one, other)."""
        directions = self._directions(np.concatenate([one, other]))
        products: FloatArray = directions[: len(one)] @ directions[len(one) :].T
        return products

    def _directions(self, items: IntArray) -> FloatArray:
        found = self.ranker.directions(items)
        if found is not None:
            return found
        return category_directions([self.catalogue.categories[item] for item in items.tolist()])


def _depth(policy: ExplorationConfig, seed: int, *, adapt: bool, memory: bool | None) -> Depth:
    samples = policy.samples if policy.kind == "thompson" else 0
    return Depth(adapt=adapt, memory=adapt if memory is None else memory, samples=samples, seed=seed)


def load_recommender(folder: Path) -> Recommender:
    """Load a bundle for serving; raises UserError if the folder holds none."""
    return Recommender(load_bundle(folder))
