"""Warm cases: the query lies after the cut, the support before it, and validation one cut earlier."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from recsys.evaluation.warm import WarmCases, before_validation, warm_cases
from recsys.logs.prepared import PreparedLog, Role, training_histories
from tests.evaluation.test_cold_start import sets
from tests.memory_log import Event, Told, memory_log, taken

DAY = 86_400
WINDOW, CUT = 5, 10  # days


def moment(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).isoformat()


def cut_log(*told: Told) -> PreparedLog:
    log = memory_log(told, items=12, test_from=moment(CUT))
    return replace(log, info=replace(log.info, validation_from=moment(WINDOW)))


WARM = Told(
    [
        Event(1, 1 * DAY, 0),
        Event(2, 2 * DAY, 0),
        Event(3, 6 * DAY, 1),  # in the validation window
        Event(1, 7 * DAY, 1),  # had already
        Event(4, 8 * DAY, 2),
        Event(5, 11 * DAY, 3, reward=-1.0),  # after the cut, not wanted
        Event(3, 12 * DAY, 3),  # had already
        Event(6, 12 * DAY, 4),
        Event(7, 20 * DAY, 5),
    ],
    train_end=5,
)


def cases_of(log: PreparedLog, until: str | None = None, most: int = 100) -> WarmCases:
    return warm_cases(log, most, np.random.default_rng(0), until)


def test_the_query_is_what_is_new_after_the_cut() -> None:
    cases = cases_of(cut_log(WARM))
    assert cases.support[0].item.tolist() == [1, 2, 3, 1, 4]
    assert cases.excluded[0].tolist() == [1, 2, 3, 4]
    assert sets(cases.query) == [[6, 7]]
    assert sets(cases.next_session) == [[6]]
    assert cases.query_events.tolist() == [[5, 9]]


def test_validation_sees_nothing_of_the_test_period_and_trains_before_its_window() -> None:
    log = cut_log(WARM)
    early = before_validation(log)
    assert early.history_train_end.tolist() == [2]
    cases = cases_of(early, until=moment(CUT))
    assert cases.support[0].item.tolist() == [1, 2]
    assert sets(cases.query) == [[3, 4]]
    assert cases.query_events.tolist() == [[2, 5]]
    assert log.history_train_end.tolist() == [5]  # the log itself is as it was


def test_cold_anonymous_and_finished_users_are_not_warm() -> None:
    log = cut_log(
        Told(WARM.events, role=Role.COLD_TEST),
        Told(WARM.events, train_end=5, attribute=None),
        taken(1, 2, 3),
        Told([Event(1, DAY), Event(2, 11 * DAY, reward=-1.0)], train_end=1),
        Told([Event(1, 11 * DAY)], train_end=0),
    )
    assert len(cases_of(log)) == 0
    assert cases_of(log).query_events.shape == (0, 2)


def test_a_split_by_users_has_no_warm_users_and_no_earlier_cut() -> None:
    log = memory_log([taken(1, 2, 3), taken(1, 2, role=Role.COLD_VALIDATION)])
    assert before_validation(log) is log
    assert len(cases_of(log)) == 0


def test_who_came_in_the_window_does_not_train_before_it() -> None:
    late = Told([Event(1, 6 * DAY), Event(2, 7 * DAY)], role=Role.COLD_VALIDATION, train_end=0)
    newcomer = Told([Event(1, 6 * DAY), Event(2, 12 * DAY)], train_end=1)
    early = before_validation(cut_log(WARM, late, newcomer))
    assert early.history_train_end.tolist() == [2, 0, 0]
    assert training_histories(early).tolist() == [0]


def test_at_most_so_many_are_drawn_and_the_same_ones_again() -> None:
    log = cut_log(*[WARM] * 9)
    assert len(cases_of(log, most=4)) == 4
    assert cases_of(log, most=4).history.tolist() == cases_of(log, most=4).history.tolist()
