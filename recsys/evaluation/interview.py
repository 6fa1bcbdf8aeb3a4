"""First screens: what a new user's answers about some items are worth, replayed with logged users.

Half of what a user ever took, drawn at random, answers; the other half is what lists are judged by. Shown a screen, the
user says yes to the items of their answering half, and those answers are all that is known of them. Items of any screen
that is compared are neither asked for nor ranked, so that every screen is judged by the same query.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.evaluation.cold_start import history_of
from recsys.evaluation.ranking import QuerySets
from recsys.logs.prepared import PreparedLog, Role
from recsys.mdp.state import History
from recsys.recommender import Recommender
from recsys.types import IntArray, LongArray


@dataclass(frozen=True)
class InterviewCases:
    """Users with what they would say yes to, and what they are to be recommended; rows agree."""

    history: LongArray  # (user,) of the prepared log
    yes: tuple[History, ...]  # the first event of each item of the answering half, in time order
    query: QuerySets
    on_screens: IntArray  # (item,) kept out of every ranking

    def __len__(self) -> int:
        return len(self.history)


def interview_cases(
    log: PreparedLog,
    role: Role,
    on_screens: Collection[int],
    generator: np.random.Generator,
    max_users: int = 500,
    least_items: int = 20,
) -> InterviewCases:
    """Return users of a role who took at least `least_items` items; a random `max_users` of them if there are more."""
    screens = np.unique(np.fromiter(on_screens, np.int32, len(on_screens)))
    kept: list[int] = []
    yes: list[History] = []
    query: list[IntArray] = []
    for index in generator.permutation(log.with_role(role)).tolist():
        if len(kept) == max_users:
            break
        history = history_of(log, index)
        liked = np.flatnonzero(history.reward > 0)
        items, first = np.unique(history.item[liked], return_index=True)
        if len(items) < least_items:
            continue
        answering = generator.permutation(len(items)) < len(items) // 2
        wanted = np.setdiff1d(items[~answering], screens).astype(np.int32)
        if not len(wanted):
            continue
        kept.append(index)
        yes.append(_events(history, np.sort(liked[first[answering]])))
        query.append(wanted)
    return InterviewCases(np.array(kept, np.int64), tuple(yes), QuerySets.of(query), screens)


def after_screen(
    recommender: Recommender, cases: InterviewCases, screen: Sequence[int] | LongArray, count: int
) -> IntArray:
    """Return what each user is recommended once they have answered a screen, (user, count), −1 beyond a short list."""
    lists = np.full((len(cases), count), -1, np.int32)
    for row, yes in enumerate(cases.yes):
        said = _events(yes, np.flatnonzero(np.isin(yes.item, np.asarray(screen))))
        given = recommender.recommend(said, count, seed=row, exclude=cases.on_screens.tolist(), greedy=True)
        lists[row, : len(given.items)] = given.items
    return lists


def said_yes(cases: InterviewCases, screen: Sequence[int] | LongArray) -> LongArray:
    """Return to how many items of a screen each user says yes, (user,)."""
    return np.array([int(np.isin(yes.item, np.asarray(screen)).sum()) for yes in cases.yes], np.int64)


def _events(history: History, places: LongArray) -> History:
    return History(
        history.item[places],
        history.event_type[places],
        history.reward[places],
        history.timestamp[places],
        history.session[places],
        history.attributes,
    )
