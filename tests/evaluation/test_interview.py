"""Interviews replayed with logged users: who answers what, and that nothing of the query is told."""

import numpy as np
import pytest

from recsys.evaluation.interview import after_screen, interview_cases, said_yes
from recsys.logs.prepared import Role
from recsys.recommender import load_recommender
from tests.factories import write_tiny_bundle
from tests.memory_log import Event, Told, memory_log, taken

ITEMS = 40
USER = Told(
    [*(Event(item, 10 * item) for item in range(30)), Event(35, 500, reward=-1.0), Event(3, 600)],
    Role.COLD_TEST,
)


def cases(seed: int = 0, screens: tuple[int, ...] = (0, 1, 2), least: int = 20):  # type: ignore[no-untyped-def]
    log = memory_log([USER, taken(1, 2, 3, role=Role.COLD_TEST), taken(*range(30))], items=ITEMS)
    return interview_cases(log, Role.COLD_TEST, screens, np.random.default_rng(seed), least_items=least)


def test_half_of_what_a_user_took_answers_and_the_other_half_is_asked_for() -> None:
    found = cases()
    assert found.history.tolist() == [0]  # one took too little, one trained
    yes, query = found.yes[0].item.tolist(), found.query.item.tolist()
    assert len(yes) == 15
    assert not set(yes) & set(query)
    assert set(yes) | set(query) | {0, 1, 2} == set(range(30))  # a cancellation is no yes
    assert sorted(yes) == yes  # in time order; an item that was taken twice answers once


def test_items_of_the_screens_are_not_asked_for() -> None:
    assert not set(cases(screens=tuple(range(10))).query.item) & set(range(10))


def test_another_draw_lets_another_half_answer() -> None:
    assert cases(0).yes[0].item.tolist() != cases(1).yes[0].item.tolist()


def test_users_say_yes_to_what_they_took_and_screens_are_never_recommended(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    recommender = load_recommender(write_tiny_bundle(tmp_path_factory.mktemp("b") / "v1", items=ITEMS))
    found = cases(screens=(0, 1, 2, 3))
    yes = found.yes[0].item
    assert said_yes(found, yes[:4]).tolist() == [4]
    assert said_yes(found, [38, 39]).tolist() == [0]
    lists = after_screen(recommender, found, yes[:4], 5)
    assert lists.shape == (1, 5)
    assert not set(lists[0]) & {0, 1, 2, 3}
    assert not set(lists[0]) & set(yes[:4].tolist())  # what was said is had
    nothing = after_screen(recommender, found, [38], 5)  # a no is not heard
    plain = recommender.recommend(found.yes[0].first(0), 5, seed=0, exclude=[0, 1, 2, 3], greedy=True)
    assert nothing[0].tolist() == plain.items.tolist()
    assert lists[0].tolist() != nothing[0].tolist()
