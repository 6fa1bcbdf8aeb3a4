"""Cold cases: one query for every k, and nothing from where it must not come."""

from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.evaluation.cold_start import ColdCases, cold_cases, history_of, validation_histories
from recsys.evaluation.ranking import QuerySets, ndcg
from recsys.evaluation.served import scored_lists
from recsys.logs.prepared import PreparedLog, Role
from tests.memory_log import Event, Told, memory_log, taken

SHOTS = 3
DAY = 86_400
CUT = datetime(1970, 1, 11, tzinfo=UTC)  # day 10


def user(*events: Event, role: Role = Role.COLD_TEST) -> Told:
    return Told(events, role)


# the first three events are items 1, 2, 3; the third is in session 1
COLD = user(
    Event(1, 0, 0),
    Event(2, 0, 0),
    Event(3, DAY, 1),
    Event(4, DAY, 1),
    Event(2, DAY, 1),  # had already
    Event(5, 2 * DAY, 2, reward=-1.0),  # not wanted
    Event(6, 3 * DAY, 3),
    Event(7, 3 * DAY, 3),
    Event(6, 20 * DAY, 4),
    Event(8, 20 * DAY, 4),
)


def cases_of(log: PreparedLog, role: Role = Role.COLD_TEST, most: int = 100, seed: int = 0) -> ColdCases:
    return cold_cases(log, role, SHOTS, most, np.random.default_rng(seed))


def sets(query: QuerySets) -> list[list[int]]:
    return [query.item[a:b].tolist() for a, b in zip(query.offsets, query.offsets[1:], strict=False)]


def test_the_query_is_what_was_wanted_after_the_support_and_not_in_it() -> None:
    cases = cases_of(memory_log([COLD]))
    assert cases.first[0].item.tolist() == [1, 2, 3]
    assert cases.excluded[0].tolist() == [1, 2, 3]
    assert sets(cases.query) == [[4, 6, 7, 8]]


def test_the_slices_are_the_rest_of_the_session_and_the_session_after_it() -> None:
    cases = cases_of(memory_log([COLD]))
    assert sets(cases.basket_completion) == [[4]]
    assert sets(cases.next_session) == [[6, 7]]
    assert not set(*sets(cases.basket_completion)) & set(*sets(cases.next_session))


def test_users_of_whom_nothing_can_be_asked_are_no_cases() -> None:
    told = [
        taken(1, 2, 3, role=Role.COLD_TEST),  # nothing after the support
        taken(1, 2, 3, 1, 2, role=Role.COLD_TEST),  # nothing new
        user(*COLD.events[:3], Event(9, DAY, 1, reward=-1.0)),  # nothing wanted
        taken(1, 2, 3, 4, 5),  # not cold
        taken(1, 2, 3, 4, 5, role=Role.COLD_VALIDATION),
        COLD,
    ]
    assert cases_of(memory_log(told)).history.tolist() == [5]
    assert len(cases_of(memory_log(told[:5]))) == 0


def test_validation_users_are_not_asked_about_the_test_period() -> None:
    late = user(*COLD.events[:2], Event(3, 11 * DAY, 1), Event(9, 12 * DAY, 1), role=Role.COLD_VALIDATION)
    log = memory_log([user(*COLD.events, role=Role.COLD_VALIDATION), late], test_from=CUT.isoformat())
    cases = cases_of(log, Role.COLD_VALIDATION)
    assert cases.history.tolist() == [0]
    assert sets(cases.query) == [[4, 6, 7]]
    # a split by users has no test period
    free = cases_of(memory_log([late]), Role.COLD_VALIDATION)
    assert sets(free.query) == [[9]]


def test_at_most_as_many_users_as_asked_for_drawn_by_the_seed() -> None:
    log = memory_log([COLD] * 30)
    drawn = cases_of(log, most=7)
    assert len(drawn) == 7
    assert len(set(drawn.history.tolist())) == 7
    assert drawn.history.tolist() == cases_of(log, most=7).history.tolist()
    assert drawn.history.tolist() != cases_of(log, most=7, seed=1).history.tolist()


def test_a_history_of_the_log_is_what_the_log_says() -> None:
    log = memory_log([taken(1), COLD])
    history = history_of(log, 1, events=4)
    assert history.item.tolist() == [1, 2, 3, 4]
    assert history.session.tolist() == [0, 0, 1, 1]
    assert history.timestamp.tolist() == [0, 0, DAY, DAY]
    assert history.attributes.tolist() == [1]


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_lists_differ_from_one_k_to_the_next_by_the_support_alone(shots: int) -> None:
    cases = cases_of(memory_log([COLD] * 3))
    seen: list[int] = []

    def scores(histories: list) -> np.ndarray:
        seen.extend(len(history) for history in histories)
        return np.tile(np.arange(10, dtype=np.float32), (len(histories), 1))

    lists = scored_lists(scores, cases, shots, 7, batch_size=2)
    assert seen == [shots] * 3
    assert lists.tolist() == [[9, 8, 7, 6, 5, 4, 0]] * 3  # 1, 2 and 3 are had, whatever k is


def test_a_perfect_list_is_marked_one_for_every_slice() -> None:
    cases = cases_of(memory_log([COLD]))
    for query in (cases.query, cases.basket_completion, cases.next_session):
        hit = np.arange(10)[None] < query.sizes[:, None]
        assert ndcg(hit, query.sizes).tolist() == [1.0]


def test_validation_histories_reach_to_the_test_cut_and_no_other_history_changes() -> None:
    validation = user(Event(1, 0), Event(2, 9 * DAY), Event(3, 10 * DAY), role=Role.COLD_VALIDATION)
    told = [taken(1, 2, 3, train_end=2), validation, COLD]
    by_time, histories = validation_histories(memory_log(told, test_from=CUT.isoformat()))
    assert histories.tolist() == [1]
    assert by_time.history_train_end.tolist() == [2, 2, 0]
    held_out, _ = validation_histories(memory_log(told))  # users held out by hash: there is no test period
    assert held_out.history_train_end.tolist() == [2, 3, 0]
