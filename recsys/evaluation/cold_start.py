"""Cold users as evaluation cases: one query set for every number of support events.

A case is a history longer than the largest number of shots K. Its query is what the user does after event K: the
positively rewarded items that are not among the first K. For every k ≤ K the support is the first k events, and the
first K items are kept out of the ranking, so that only the support changes from one k to the next. Where histories hold
what was shown without response, such an event counts among the K, but its item may be ranked and asked for. Two slices
ask different questions: completing the basket that event K belongs to, and the next session that brings something new.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from recsys.evaluation.ranking import QuerySets
from recsys.logs.prepared import PreparedLog, Role, had
from recsys.mdp.state import History
from recsys.mdp.windows import attributes_of
from recsys.types import BoolArray, IntArray, LongArray


@dataclass(frozen=True)
class ColdCases:
    """Cold users with their first K events and what follows; rows agree."""

    history: LongArray  # (user,) of the prepared log
    first: tuple[History, ...]  # the first K events of each
    excluded: list[IntArray]  # items kept out of each user's ranking
    query: QuerySets
    basket_completion: QuerySets  # the rest of the session of event K; may be empty for a user
    next_session: QuerySets  # the next session with a new, rewarded item; may be empty for a user

    def __len__(self) -> int:
        return len(self.history)

    def rows(self, part: slice) -> "ColdCases":
        """Return some of the cases; both ends of the slice are given."""
        return ColdCases(
            self.history[part],
            self.first[part],
            self.excluded[part],
            self.query.rows(part),
            self.basket_completion.rows(part),
            self.next_session.rows(part),
        )


def without_attributes(cases: ColdCases) -> ColdCases:
    """Return the same users as if nothing but their events were known."""
    hidden = tuple(replace(history, attributes=np.zeros_like(history.attributes)) for history in cases.first)
    return replace(cases, first=hidden)


def exclusion_mask(cases: ColdCases, items: int) -> BoolArray:
    """Return which items are kept out of each user's ranking, (user, item)."""
    mask = np.zeros((len(cases), items), bool)
    for row, banned in enumerate(cases.excluded):
        mask[row, banned] = True
    return mask


def history_of(log: PreparedLog, index: int, events: int | None = None) -> History:
    """Return one history of a prepared log, or its first events."""
    start, end = int(log.history_offsets[index]), int(log.history_offsets[index + 1])
    part = slice(start, end if events is None else min(end, start + events))
    return History(
        item=np.array(log.item[part]),
        event_type=np.array(log.event_type[part]),
        reward=np.array(log.reward[part]),
        timestamp=np.array(log.timestamp[part]),
        session=np.array(log.session[part]),
        attributes=attributes_of(log, np.array([index]))[0],
    )


def cold_cases(
    log: PreparedLog, role: Role, shots: int, max_users: int, generator: np.random.Generator
) -> ColdCases:
    """Return the cases of one role; a random `max_users` of them if there are more.

    What validation users do after the test cut is left out: nothing of the test period may choose a model.
    """
    candidates = log.with_role(role)
    end = _last_second(log) if role == Role.COLD_VALIDATION else None
    candidates = candidates[np.diff(log.history_offsets)[candidates] > shots]
    kept: list[int] = []
    first: list[History] = []
    excluded: list[IntArray] = []
    query: list[IntArray] = []
    completion: list[IntArray] = []
    following: list[IntArray] = []
    for index in generator.permutation(candidates).tolist():
        if len(kept) == max_users:
            break
        history = history_of(log, index)
        if end is not None:
            history = history.first(int(np.searchsorted(history.timestamp, end)))
        if len(history) <= shots:
            continue
        support = np.unique(history.item[:shots][had(log, history.event_type[:shots])])
        later = np.arange(shots, len(history))
        wanted = later[(history.reward[later] > 0) & ~np.isin(history.item[later], support)]
        if not len(wanted):
            continue
        session = history.session[wanted]
        after = session[session > history.session[shots - 1]]
        kept.append(index)
        first.append(history.first(shots))
        excluded.append(support)
        query.append(np.unique(history.item[wanted]))
        completion.append(np.unique(history.item[wanted[session == history.session[shots - 1]]]))
        following.append(np.unique(history.item[wanted[session == (after.min() if len(after) else -1)]]))
    return ColdCases(
        np.array(kept, np.int64),
        tuple(first),
        excluded,
        QuerySets.of(query),
        QuerySets.of(completion),
        QuerySets.of(following),
    )


def validation_histories(log: PreparedLog) -> tuple[PreparedLog, LongArray]:
    """Return cold validation users, (history,), in a log whose training part holds what they do before the test cut.

    Nobody trains on them: for figures that must not come from what a network has learnt from.
    """
    histories = log.with_role(Role.COLD_VALIDATION)
    end = _last_second(log)
    length = np.diff(log.history_offsets)
    if end is not None:
        early = np.concatenate([[0], np.cumsum(log.timestamp < end)])
        length = early[log.history_offsets[1:]] - early[log.history_offsets[:-1]]
    train_end = np.array(log.history_train_end)
    train_end[histories] = length[histories]
    return replace(log, history_train_end=train_end), histories


def _last_second(log: PreparedLog) -> int | None:
    """Return where the test period begins, in seconds, if the split is by time."""
    if log.info.test_from is None:
        return None
    return int(datetime.fromisoformat(log.info.test_from).timestamp())
