"""Warm users as evaluation cases: who trained, asked about what they do after the cut.

The support is the whole training history, the query the positively rewarded items after the cut that are not in it;
what a user has had is kept out of the ranking, as it is for cold users. Policies that read sequences cut the support to
their newest events themselves. Only a split by time has such cases: users who are held out are cold, and the others
train on all they did.

Settings are chosen one cut earlier. `before_validation` is the log as it was known when the validation window began:
what training users do inside the window is no training event there, so their window is the warm query, and users first
seen in it are the cold ones. Nothing of the test period is in either.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from recsys.evaluation.cold_start import history_of
from recsys.evaluation.ranking import QuerySets
from recsys.logs.prepared import PreparedLog, Role, had
from recsys.mdp.state import History
from recsys.types import IntArray, LongArray


@dataclass(frozen=True)
class WarmCases:
    """Warm users with their training history and what follows; rows agree."""

    history: LongArray  # (user,) of the prepared log
    support: tuple[History, ...]
    excluded: list[IntArray]  # items kept out of each user's ranking
    query: QuerySets
    next_session: QuerySets  # the next session with a new, rewarded item; may be empty for a user
    query_events: LongArray  # (user, 2): the events [start, end) of the log that the query is read from

    def __len__(self) -> int:
        return len(self.history)


def before_validation(log: PreparedLog) -> PreparedLog:
    """Return the log whose training ends where the validation window begins; itself if there is no window."""
    if log.info.validation_from is None:
        return log
    early = np.concatenate([[0], np.cumsum(log.timestamp < seconds_of(log.info.validation_from))])
    counts = early[log.history_offsets[1:]] - early[log.history_offsets[:-1]]
    return replace(log, history_train_end=np.minimum(log.history_train_end, counts).astype(np.int64))


def warm_cases(
    log: PreparedLog, max_users: int, generator: np.random.Generator, until: str | None = None
) -> WarmCases:
    """Return the identified training users who do something new after their training ends, and before `until`.

    A random `max_users` of them if there are more. A split by users gives none.
    """
    candidates = log.with_role(Role.TRAIN)
    length = np.diff(log.history_offsets)[candidates]
    support = log.history_train_end[candidates]
    asked = (np.asarray(log.history_user[candidates]) >= 0) & (support > 0) & (support < length)
    end = None if until is None else seconds_of(until)
    kept: list[int] = []
    histories: list[History] = []
    excluded: list[IntArray] = []
    query: list[IntArray] = []
    following: list[IntArray] = []
    events: list[tuple[int, int]] = []
    for index in generator.permutation(candidates[asked]).tolist():
        if len(kept) == max_users:
            break
        history = history_of(log, index)
        if end is not None:
            history = history.first(int(np.searchsorted(history.timestamp, end)))
        first = int(log.history_train_end[index])
        later = np.arange(first, len(history))
        known = np.unique(history.item[:first][had(log, history.event_type[:first])])
        wanted = later[(history.reward[later] > 0) & ~np.isin(history.item[later], known)]
        if not len(wanted):
            continue
        session = history.session[wanted]
        after = session[session > history.session[first - 1]]
        start = int(log.history_offsets[index])
        kept.append(index)
        histories.append(history.first(first))
        excluded.append(known)
        query.append(np.unique(history.item[wanted]))
        following.append(np.unique(history.item[wanted[session == (after.min() if len(after) else -1)]]))
        events.append((start + first, start + len(history)))
    return WarmCases(
        np.array(kept, np.int64),
        tuple(histories),
        excluded,
        QuerySets.of(query),
        QuerySets.of(following),
        np.array(events, np.int64).reshape(-1, 2),
    )


def seconds_of(moment: str) -> int:
    """Return an ISO 8601 moment of prepared.json in seconds since 1970."""
    return int(datetime.fromisoformat(moment).timestamp())
