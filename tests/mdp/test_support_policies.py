"""What another policy would have logged is drawn with the chances that it says, and support and query stay apart."""

import numpy as np
import pytest

from recsys.mdp.support_policies import LARGEST_WEIGHT, POOL, OtherPolicies, kept_events
from recsys.mdp.tasks import task_batches, task_starts
from tests.memory_log import memory_log, random_told, taken

POPULARITY = np.array([99, 9, 39, 19, 0, 0], np.float32)
FACTORS = np.array([[1, 0], [0.9, 0.1], [0, 1], [1, 0.2], [0, 0], [1, 1]], np.float32)


def others(*names: str, share: float = 1.0) -> OtherPolicies:
    return OtherPolicies(share, names, POPULARITY, FACTORS)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        # items 1, 2, 3 after item 0: shares of 10, 40, 20 events, cosines of .994, 0, .981 to the first
        ("random", [1 / 10, 1 / 40, 1 / 20]),
        ("popular", [10, 40, 20]),
        ("item_knn", [np.exp(9.939) / 10, np.exp(0.0) / 40, np.exp(9.806) / 20]),
    ],
)
def test_an_event_is_kept_with_the_chance_of_its_weight(name: str, weight: list[float]) -> None:
    """The first event always, then one of the next three in proportion to w, clipped at a hundredth of the largest."""
    tasks = 20_000
    item = np.tile([0, 1, 2, 3, 4], tasks)
    start, available = np.arange(tasks) * 5, np.full(tasks, 4)  # what is beyond is not the task's
    kept = kept_events(
        item,
        start,
        available,
        np.full(tasks, 2),
        np.zeros(tasks, int),
        others(name),
        np.random.default_rng(0),
    )
    pairs = kept.reshape(tasks, 2)
    assert (pairs[:, 0] == start).all()
    share = np.bincount(item[pairs[:, 1]], minlength=5)[1:3] / tasks
    # the pool leaves one event to ask for: items 1 and 2 remain
    wanted = np.maximum(np.array(weight[:2]), max(weight[:2]) / LARGEST_WEIGHT)
    assert share == pytest.approx(wanted / wanted.sum(), abs=0.01)


def test_weights_are_clipped_by_the_largest_of_their_own_task() -> None:
    """Items 0 and 4 have 99 and no histories: a hundredfold; a task of item 0 alone is not told of item 4."""
    item, first = np.array([0, 1, 4]), np.array([0, 0, 4])
    together = others("random").weights("random", item, first, np.array([0, 0, 1]))
    alone = others("random").weights("random", item[:2], first[:2], np.array([0, 0]))
    np.testing.assert_allclose(together[:2], alone)
    assert np.exp(together[1] - together[0]) == pytest.approx(10.0, rel=1e-5)


def test_tasks_of_the_log_keep_their_first_events_and_others_keep_theirs_in_order() -> None:
    generator = np.random.default_rng(1)
    item = generator.integers(0, 6, 300)
    start, available = np.array([0, 100, 200]), np.array([100, 100, 12])
    shots = np.array([7, 9, 11])
    kept = kept_events(
        item, start, available, shots, np.array([-1, 0, 1]), others("random", "popular"), generator
    )
    first, second, third = np.split(kept, np.cumsum(shots)[:-1])
    assert first.tolist() == list(range(7))
    assert (np.diff(second) > 0).all()
    assert second[0] == 100
    assert second[-1] < 100 + POOL * 9
    assert third.tolist() == list(range(200, 211))  # all but the one that is asked for


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_resampled_support_keeps_clear_of_its_query(share: float) -> None:
    generator = np.random.default_rng(4)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(8, 40, 30)])
    starts = task_starts(log, np.arange(30), min_events=6, first_only=True)
    items = len(log.content)
    elsewhere = OtherPolicies(
        share,
        ("random", "item_knn"),
        np.ones(items, np.float32),
        generator.normal(size=(items, 3)).astype(np.float32),
    )
    contiguous = 0
    for batch in task_batches(log, starts, 30, 10, 500, generator, elsewhere):
        assert (batch.support.lengths == batch.shots).all()
        for task, shots in enumerate(batch.shots.tolist()):
            support = batch.support.item[task, :shots].tolist()
            assert not set(support) & set(batch.query_item[batch.query_task == task].tolist())
            places = [log.item[start : start + shots] for start in starts.start]
            contiguous += any(sorted(support) == sorted(place.tolist()) for place in places)
        told = len(batch.shots)
    assert contiguous == told if share == 0.0 else contiguous < told


def test_no_other_policy_leaves_the_tasks_as_they_are() -> None:
    log = memory_log([taken(*range(9)) for _ in range(5)])
    starts = task_starts(log, np.arange(5), 6, first_only=True)
    one, same = (next(task_batches(log, starts, 5, 6, 50, np.random.default_rng(3), None)) for _ in range(2))
    assert (one.support.item == same.support.item).all()
    assert (one.query_item == same.query_item).all()
