"""Tasks keep support and query apart, new users and old ones too."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys.config import MetatrainConfig
from recsys.logs.prepared import Role
from recsys.mdp.tasks import draw_shots, old_and_new_tasks, task_batches, task_starts, trainable
from recsys.mdp.windows import ever_taken
from tests.memory_log import Event, Told, memory_log, random_told, taken


def test_new_tasks_are_identified_training_users_that_pretraining_does_not_read() -> None:
    told = [taken(1, 2) for _ in range(20)] + [taken(3, attribute=None) for _ in range(5)]
    told += [taken(4, role=Role.COLD_TEST), taken(4, role=Role.COLD_VALIDATION), taken(5, train_end=0)]
    old, new = old_and_new_tasks(memory_log(told), 0.25, seed=3, identified_only=False)
    assert len(new) == 5
    assert (new < 20).all()
    assert sorted([*old, *new]) == list(range(25))
    again = old_and_new_tasks(memory_log(told), 0.25, seed=3, identified_only=True)
    assert np.array_equal(new, again[1])
    assert not np.array_equal(new, old_and_new_tasks(memory_log(told), 0.25, seed=4, identified_only=True)[1])


def test_a_task_starts_where_a_session_does_if_enough_training_follows() -> None:
    events = [Event(1, 0, 0), Event(2, 1, 0), Event(3, 2, 1), Event(4, 3, 1), Event(5, 4, 2), Event(6, 5, 2)]
    log = memory_log([taken(9), Told(events, train_end=5), Told(events)])
    starts = task_starts(log, np.array([1, 2]), min_events=3)
    # history 1 covers events 1-5 of the log, its last one after the cut; history 2 covers 7-12
    assert list(zip(starts.start.tolist(), starts.end.tolist(), starts.history.tolist(), strict=True)) == [
        (1, 6, 1),
        (3, 6, 1),
        (7, 13, 2),
        (9, 13, 2),
    ]
    first = task_starts(log, np.array([1, 2]), min_events=3, first_only=True)
    assert first.start.tolist() == [1, 7]


def test_a_neighbour_in_the_same_session_number_does_not_hide_a_start() -> None:
    log = memory_log([taken(1, 2, 3), taken(4, 5, 6)])
    assert task_starts(log, np.arange(2), 2).start.tolist() == [0, 3]


@pytest.mark.parametrize("seed", range(4))
def test_support_and_query_are_the_two_sides_of_one_moment(seed: int) -> None:
    generator = np.random.default_rng(seed)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(8, 40, 12)])
    starts = task_starts(log, np.arange(12), min_events=6)
    seen = 0
    for batch in task_batches(log, starts, 5, 10, 8, generator):
        assert (batch.support.lengths == batch.shots).all()
        assert (np.diff(batch.query_task.numpy()) >= 0).all()
        takes = ever_taken(batch.support, torch.arange(len(log.content)))
        assert takes[batch.query_task, batch.query_item].all()  # the query is no rival of itself
        for task, shots in enumerate(batch.shots.tolist()):
            support = sorted(batch.support.item[task, :shots].tolist())
            query = batch.query_item[batch.query_task == task].tolist()
            assert not set(query) & set(support)
            assert len(query) == len(set(query))
            # some place of the log explains both: it begins with the support and the query follows it
            assert any(
                sorted(log.item[start : start + shots].tolist()) == support
                and set(query) == wanted(log, start + shots, min(end, start + shots + 8)) - set(support)
                for start, end in zip(starts.start, starts.end, strict=True)
            )
            seen += 1
    assert seen == len(starts)


def wanted(log, start: int, end: int) -> set[int]:
    """Return the rewarded items of a stretch of the log."""
    return set(log.item[start:end][log.reward[start:end] > 0].tolist())


def test_shots_are_log_uniform() -> None:
    drawn = draw_shots(np.full(200_000, 100), 10, np.random.default_rng(0))
    share = np.bincount(drawn, minlength=11)[1:] / len(drawn)
    expected = np.log1p(1 / np.arange(1, 11)) / np.log(11)
    assert expected.sum() == pytest.approx(1.0)
    assert np.abs(share - expected).max() < 0.005


def test_shots_leave_something_to_ask_about() -> None:
    available = np.array([2, 3, 5])
    for seed in range(50):
        assert (draw_shots(available, 20, np.random.default_rng(seed)) < available).all()


def test_anonymous_sessions_may_be_left_out_unless_there_is_nothing_else() -> None:
    mixed = memory_log([taken(1), taken(2, attribute=None)])
    nobody = memory_log([taken(1, attribute=None), taken(2, attribute=None)])
    assert trainable(mixed, identified_only=True).tolist() == [0]
    assert trainable(mixed, identified_only=False).tolist() == [0, 1]
    assert trainable(nobody, identified_only=True).tolist() == [0, 1]


def test_a_task_has_something_to_ask_for() -> None:
    with pytest.raises(ValidationError, match="min_task_events"):
        MetatrainConfig(min_task_events=1)
