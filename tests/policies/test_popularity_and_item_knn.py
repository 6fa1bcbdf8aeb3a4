"""Baselines held against hand-made tables and a loop over pairs of items."""

import numpy as np
import pytest

from recsys.logs.prepared import PreparedLog, Role, identified, training_histories
from recsys.mdp.state import empty_history
from recsys.policies.item_knn import ItemKnn, ItemKnnOptions
from recsys.policies.policy import support_matrix
from recsys.policies.popularity import Popularity, PopularityOptions
from tests.memory_log import Event, Told, history, memory_log, random_told, taken

DAY = 86_400
ITEMS = 6
LOG = memory_log(
    [
        Told([Event(0, 0), Event(0, 10 * DAY), Event(1, 10 * DAY)]),
        Told([Event(0, 20 * DAY), Event(2, 20 * DAY, reward=-1.0), Event(3, 30 * DAY)], train_end=2),
        taken(1, 4, attribute=None),
        taken(5, role=Role.COLD_TEST),
    ],
    items=ITEMS,
)
NOBODY = empty_history(np.array([0], np.int32))
PLAIN = {"identified_only": False}


def popularity(**options: object) -> list[float]:
    return Popularity(PopularityOptions(**options)).fit(LOG, training_histories(LOG)).popularity_.tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (PLAIN, [2, 2, 0, 0, 1, 0]),
        (PLAIN | {"count": "events"}, [3, 2, 0, 0, 1, 0]),
        ({}, [2, 1, 0, 0, 0, 0]),  # without the anonymous session
        (
            {"half_life_days": 10.0},
            [1.5, 0.5, 0, 0, 0, 0],
        ),  # a history counts by its newest event, day 20 is now
        ({"half_life_days": 10.0, "count": "events"}, [1.75, 0.5, 0, 0, 0, 0]),
        ({"window_days": 5.0}, [1, 0, 0, 0, 0, 0]),
        ({"window_days": 10.0}, [2, 1, 0, 0, 0, 0]),
    ],
)
def test_popularity_is_what_counting_gives(options: dict[str, object], expected: list[float]) -> None:
    assert popularity(**options) == pytest.approx(expected)


def test_everybody_gets_the_same_popular_items() -> None:
    fitted = Popularity().fit(LOG, training_histories(LOG))
    scores = fitted.scores([NOBODY, history(Event(3))])
    assert scores.shape == (2, ITEMS)
    assert scores[0].tolist() == scores[1].tolist() == fitted.popularity_.tolist()


def test_a_log_that_identifies_nobody_is_learnt_from_all_the_same() -> None:
    log = memory_log([taken(1, attribute=None), taken(2, attribute=None)])
    assert identified(log, np.arange(2)).tolist() == [0, 1]
    assert identified(LOG, np.arange(3)).tolist() == [0, 1]


def test_the_support_is_what_was_rewarded_once_each() -> None:
    events = history(Event(1), Event(1), Event(2, reward=-1.0), Event(3, reward=0.2))
    assert support_matrix([events, NOBODY], 5).toarray().tolist() == [[0, 1, 0, 1, 0], [0] * 5]
    assert support_matrix([], 5).shape == (0, 5)


def looped_similarity(log: PreparedLog, options: ItemKnnOptions) -> np.ndarray:
    """Every pair of items, straight from the formula."""
    items = len(log.content)
    rows = []
    for start, end in zip(
        log.history_offsets, log.history_offsets[:-1] + log.history_train_end, strict=False
    ):
        part = slice(start, end)
        rows.append(set(log.item[part][log.reward[part] > 0].tolist()))
    rows = [row for row in rows if row]
    weight = np.array([len(row) ** (-2 * options.history_exponent) for row in rows])
    weight *= sum(len(row) for row in rows) / sum(len(row) * w for row, w in zip(rows, weight, strict=True))
    shared = np.array(
        [
            [sum(w for row, w in zip(rows, weight, strict=True) if {i, j} <= row) for i in range(items)]
            for j in range(items)
        ]
    )
    degree = np.diag(shared)
    similarity = np.zeros((items, items))
    for j in range(items):
        for i in range(items):
            if i != j and shared[j, i] > 0:
                cosine = shared[j, i] / (degree[j] * degree[i]) ** options.exponent
                similarity[j, i] = cosine * shared[j, i] / (shared[j, i] + options.shrinkage)
    if options.neighbours:
        for i in range(items):
            floor = np.sort(similarity[:, i])[-min(options.neighbours, items)]
            similarity[similarity[:, i] < floor, i] = 0.0
    return similarity


@pytest.mark.parametrize(
    "options",
    [
        ItemKnnOptions(shrinkage=0.0),
        ItemKnnOptions(exponent=0.7, shrinkage=3.0),
        ItemKnnOptions(history_exponent=0.5, shrinkage=1.0),
        ItemKnnOptions(history_exponent=0.25, shrinkage=2.0, neighbours=3),
        ItemKnnOptions(neighbours=99),
    ],
    ids=str,
)
def test_similarities_are_those_of_a_loop_over_pairs(options: ItemKnnOptions) -> None:
    generator = np.random.default_rng(0)
    log = memory_log(
        [random_told(generator, int(events), 12) for events in generator.integers(1, 15, 25)], items=12
    )
    fitted = ItemKnn(options).fit(log, training_histories(log))
    np.testing.assert_allclose(fitted.similarity_.toarray(), looped_similarity(log, options), atol=1e-5)


def test_the_cosine_of_two_items_bought_together_by_one_of_two() -> None:
    log = memory_log([taken(0, 1), taken(0), taken(2)], items=3)
    fitted = ItemKnn(ItemKnnOptions(shrinkage=0.0)).fit(log, np.arange(3))
    assert fitted.similarity_[0, 1] == pytest.approx(1 / np.sqrt(2))


def test_scores_add_up_over_the_support() -> None:
    log = memory_log([taken(0, 1, 2), taken(0, 2), taken(1, 2), taken(3, 4)], items=5)
    fitted = ItemKnn(ItemKnnOptions(shrinkage=0.0)).fit(log, np.arange(4))
    one, other, both = fitted.scores([history(Event(0)), history(Event(1)), history(Event(0), Event(1))])
    assert both[2] == pytest.approx(one[2] + other[2])


def test_popularity_orders_what_no_neighbour_speaks_for_below_what_one_does() -> None:
    log = memory_log([taken(0, 1), taken(3, 2), taken(3), taken(3), taken(2), taken(4)], items=6)
    fitted = ItemKnn().fit(log, np.arange(6))
    stranger, known = fitted.scores([NOBODY, history(Event(0))])
    assert np.argsort(-stranger, kind="stable")[:2].tolist() == [3, 2]
    assert np.argsort(-known, kind="stable")[:3].tolist() == [1, 3, 2]
    assert stranger[5] == stranger.min()
