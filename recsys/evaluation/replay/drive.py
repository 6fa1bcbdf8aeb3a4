"""Drives policies through logged requests: each sees the user's past at that moment and nothing else.

What comes out are lists as estimators read them (ope/slates.py), bucket by bucket. The reward model is fitted on other
users: q̂ of an item at a position is its mean reward there among users of other folds, shrunk.
"""

import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.evaluation.ope.slates import Slates
from recsys.evaluation.replay.attribution import Attributed, attribute
from recsys.evaluation.replay.log import EventSource, RequestTable, requests_of
from recsys.evaluation.replay.model import ListModel
from recsys.evaluation.replay.policies import EvaluationPolicy, Request
from recsys.logged_event import PER_SECOND, LoggedEvent
from recsys.types import LongArray, RealArray

HISTORY_EVENTS = 200  # newest events that the endpoint reads by default
MOST_CELLS = 20  # attributes with more values make no cohorts: each cell has sums of its own


@dataclass(frozen=True)
class ReplayedLists:
    """One bucket of requests with what each policy would have done; first axis request."""

    slates: Mapping[str, Slates]
    time: LongArray  # microseconds
    events_used: LongArray  # of the user, before the request
    versions: list[str]
    recommendation: list[str]
    item: LongArray  # (request, position), code into the item vocabulary
    first_item_age_s: RealArray  # since the item was first shown in the log; NaN if that is now
    attributes: Mapping[str, Sequence[str]]  # of the users, by name; "unknown" where there is none

    def __len__(self) -> int:
        return len(self.time)


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


class Vocabulary:
    """Items of the log by code, in the order in which they are met, and of policies by index."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self.first_shown: dict[int, int] = {}
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


def fit_list_model(
    source: EventSource, config: RewardConfig, window_s: float, vocabulary: Vocabulary, folds: int = 3
) -> ListModel:
    """Return the reward model of a log, from one pass over it."""
    model = ListModel(folds)
    for frame in source:
        codes = vocabulary.codes(frame[c.ITEM_ID])
        earned = attribute(frame, codes, config, window_s)
        requests = requests_of(frame, codes, need_propensity=False, source=source)
        model.learn(_clusters(requests.who), requests.item, _at(earned.reward, requests.row), requests.length)
        _note_first_shown(vocabulary, requests)
    return model


def replay(
    source: EventSource,
    policies: Mapping[str, EvaluationPolicy],
    config: RewardConfig,
    window_s: float,
    vocabulary: Vocabulary,
    model: ListModel | None,
    tally: Tally,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    history_events: int = HISTORY_EVENTS,
    max_weight: float = np.inf,
    on_request: Callable[[], None] = lambda: None,
    propensities: Callable[[RequestTable], RealArray] | None = None,
) -> Iterator[ReplayedLists]:
    """Yield the lists of each bucket of users; `propensities` replaces those of logs that have none."""
    for frame in source:
        codes = vocabulary.codes(frame[c.ITEM_ID])
        earned = attribute(frame, codes, config, window_s)
        requests = requests_of(frame, codes, need_propensity=propensities is None, source=source)
        _count(tally, frame, requests, earned)
        if not len(requests):
            continue
        logged = requests.propensity if propensities is None else propensities(requests)
        users = _Users(frame, earned, attributes or {}, history_events)
        made = _asked(requests, policies, users, vocabulary, model, on_request)
        cluster = _clusters(requests.who)
        yield ReplayedLists(
            {
                name: Slates(
                    _at(earned.reward, requests.row),
                    logged,
                    answers.chosen,
                    requests.length,
                    answers.q_logged if model else None,
                    answers.value if model else None,
                    cluster,
                    max_weight,
                )
                for name, answers in made.items()
            },
            requests.time,
            users.known_before(requests),
            requests.version,
            requests.recommendation,
            requests.item,
            _ages(vocabulary, requests),
            _attributes_of(requests.who, attributes or {}),
        )


@dataclass(frozen=True)
class _Answers:
    chosen: RealArray  # (request, position)
    q_logged: RealArray
    value: RealArray


def _asked(
    requests: RequestTable,
    policies: Mapping[str, EvaluationPolicy],
    users: "_Users",
    vocabulary: Vocabulary,
    model: ListModel | None,
    on_request: Callable[[], None],
) -> dict[str, _Answers]:
    """Ask every policy for its distribution at every request."""
    shape = requests.item.shape
    answers = {name: _Answers(np.ones(shape), np.zeros(shape), np.zeros(shape)) for name in policies}
    indices = {name: vocabulary.of_policy(policy) for name, policy in policies.items()}
    cluster = _clusters(requests.who)
    order = np.lexsort((requests.time, cluster))
    for row in order.tolist():  # a policy is asked one request at a time, as it is live
        length = int(requests.length[row])
        shown = requests.item[row, :length]
        q_table = None if model is None else model.table(int(cluster[row]), length)  # (position, item)
        for name, policy in policies.items():
            request = users.request(requests, row, impressions=policy.reads_impressions)
            distribution = policy.distribution(request)
            codes = indices[name][distribution.items]
            chances = replace(distribution, items=codes.astype(np.int32)).given_above(shown)
            into = answers[name]
            into.chosen[row, :length] = np.where(codes == shown[:, None], chances, 0.0).sum(axis=1)
            if q_table is not None:
                # an item that was never shown, or that the log does not know, reads the mean, kept last
                of_candidates = q_table[:, np.where(codes < q_table.shape[1] - 1, codes, -1)]
                into.value[row, :length] = (chances * of_candidates).sum(axis=1)
                into.q_logged[row, :length] = q_table[np.arange(length), shown]
        on_request()
    return answers


class _Users:
    """What each user of a bucket had done by any moment."""

    def __init__(
        self,
        frame: pd.DataFrame,
        earned: Attributed,
        attributes: Mapping[str, Mapping[str, str]],
        history_events: int,
    ) -> None:
        self._attributes = attributes
        self._limit = history_events
        who = frame["who"].to_numpy(object)
        edges = np.flatnonzero(np.append(True, who[1:] != who[:-1])) if len(who) else np.empty(0, np.int64)
        self._range = {
            who[start]: (int(start), int(end))
            for start, end in zip(edges, np.append(edges[1:], len(who)), strict=True)
        }
        self._shown = (frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()
        self._time = frame["time"].to_numpy()
        self._answered_at = earned.answered_at
        session = frame[c.SESSION_ID].to_numpy(object)
        value = frame[c.VALUE].to_numpy(np.float64, na_value=np.nan)
        self._events = [
            LoggedEvent(
                item, kind, None if np.isnan(number) else float(number), moment / PER_SECOND, name_of(of)
            )
            for item, kind, number, moment, of in zip(
                frame[c.ITEM_ID].to_numpy(object),
                frame[c.EVENT_TYPE].to_numpy(object),
                value,
                self._time.tolist(),
                session,
                strict=True,
            )
        ]
        self._feedback = np.flatnonzero(~self._shown)
        self._feedback_before = np.concatenate([[0], np.cumsum(~self._shown)])

    def _before(self, who: str, time: int) -> tuple[int, int]:
        """Return the rows [start, end) of a user that are earlier than a moment."""
        start, end = self._range[who]
        return start, start + bisect_left(self._time[start:end], time)

    def request(self, requests: RequestTable, row: int, *, impressions: bool) -> Request:
        """Return what is known at a request: the newest events before it."""
        who, time = requests.who[row], int(requests.time[row])
        start, end = self._before(who, time)
        feedback = self._feedback[self._feedback_before[start] : self._feedback_before[end]]
        rows = feedback[-self._limit :]
        if impressions:
            past = np.arange(start, end)
            # an impression that is answered later on is, at this moment, one without response
            silent = past[self._shown[start:end] & (self._answered_at[start:end] >= time)]
            rows = np.sort(
                np.concatenate([rows, silent[-self._limit :]])
            )  # each kind up to the limit, as live
        return Request(
            who,
            time / PER_SECOND,
            int(requests.length[row]),
            zlib.crc32(requests.recommendation[row].encode()),
            [self._events[place] for place in rows.tolist()],
            self._attributes.get(who, {}),
        )

    def known_before(self, requests: RequestTable) -> LongArray:
        """Return how many events of its user each request could use, (request,)."""
        counts = []
        for who, time in zip(requests.who, requests.time.tolist(), strict=True):
            start, end = self._before(who, time)
            counts.append(int(self._feedback_before[end] - self._feedback_before[start]))
        return np.minimum(np.array(counts, np.int64), self._limit)


def name_of(session: Any) -> str | None:
    """Return a session's name as a text; None for missing ones, however they are written."""
    return None if session is None or session != session else str(session)


def _at(values: RealArray, row: LongArray) -> RealArray:
    """Return values at rows, 0 where the row is −1."""
    return np.where(row >= 0, values[np.maximum(row, 0)], 0.0)


def _clusters(who: Sequence[str]) -> LongArray:
    """Return a number for each user that is the same in every bucket and run, (request,)."""
    if not who:
        return np.empty(0, np.int64)
    hashes = pd.util.hash_array(np.array(who, object))
    return (hashes >> np.uint64(1)).astype(np.int64)


def _count(tally: Tally, frame: pd.DataFrame, requests: RequestTable, earned: Attributed) -> None:
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


def _note_first_shown(vocabulary: Vocabulary, requests: RequestTable) -> None:
    """Remember when each item was first shown."""
    if not len(requests):
        return
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


def _ages(vocabulary: Vocabulary, requests: RequestTable) -> RealArray:
    """Return how long ago the first item of each list was first shown, in seconds; NaN without a first pass."""
    first = requests.item[:, 0]
    born = np.array([vocabulary.first_shown.get(item, -1) for item in first.tolist()], np.float64)
    age: RealArray = np.where(born >= 0, (requests.time - born) / PER_SECOND, np.nan)
    return age


def _attributes_of(who: Sequence[str], attributes: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return what is known of each request's user, by attribute with few values, (request,) each."""
    values: dict[str, set[str]] = {}
    for known in attributes.values():
        for name, value in known.items():
            values.setdefault(name, set()).add(value)
    names = sorted(name for name, different in values.items() if len(different) <= MOST_CELLS)
    return {name: [attributes.get(user, {}).get(name, "unknown") for user in who] for name in names}
