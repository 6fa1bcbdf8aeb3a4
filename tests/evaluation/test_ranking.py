"""Ranking metrics held against hand-made tables and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys.evaluation.ranking import (
    QuerySets,
    hits,
    ndcg,
    recall,
    reciprocal_rank,
    reward_gains,
    tie_order,
    top_items,
    weighted_ndcg,
)


def queries(*rows: list[int]) -> QuerySets:
    return QuerySets.of([np.array(row, np.int32) for row in rows])


def discount(*positions: int) -> float:
    return sum(1 / math.log2(position + 2) for position in positions)


@pytest.mark.parametrize(
    ("ranked", "query", "expected_ndcg", "expected_recall"),
    [
        ([7, 8, 9], [7], 1.0, 1.0),
        ([7, 8, 9], [8], 1 / math.log2(3), 1.0),
        ([7, 8, 9], [9, 7], discount(0, 2) / discount(0, 1), 1.0),
        ([7, 8, 9], [1, 2], 0.0, 0.0),
        ([7, 8, 9], [7, 1, 2, 3, 4], 1 / discount(0, 1, 2), 1 / 3),  # only three can be reached
        ([7, 8, 9], [9, 8, 7, 6], 1.0, 1.0),
        ([7, 8, 9], [], 0.0, 0.0),
        ([7, -1, -1], [7, 8], 1 / discount(0, 1), 0.5),  # a list that was too short
    ],
)
def test_marks_are_those_computed_by_hand(
    ranked: list[int], query: list[int], expected_ndcg: float, expected_recall: float
) -> None:
    asked = queries(query)
    hit = hits(np.array([ranked], np.int32), asked)
    assert ndcg(hit, asked.sizes).tolist() == pytest.approx([expected_ndcg])
    assert recall(hit, asked.sizes).tolist() == pytest.approx([expected_recall])


def test_each_user_is_marked_by_their_own_query() -> None:
    asked = queries([1], [], [2, 3])
    hit = hits(np.array([[1, 2], [1, 2], [1, 2]], np.int32), asked)
    assert hit.tolist() == [[True, False], [False, False], [False, True]]
    assert asked.sizes.tolist() == [1, 0, 2]
    assert len(asked) == 3


def test_ndcg_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    users, items, cutoff = 50, 40, 10
    scores = generator.permuted(np.tile(np.arange(items, dtype=np.float32), (users, 1)), axis=1)  # no ties
    rows = [generator.choice(items, int(size), replace=False) for size in generator.integers(1, 25, users)]
    asked = queries(*(row.tolist() for row in rows))
    truth = np.zeros((users, items))
    for user, row in enumerate(rows):
        truth[user, row] = 1
    ranked = top_items(scores, np.zeros((users, items), bool), cutoff, tie_order(items, 0))
    found = ndcg(hits(ranked, asked), asked.sizes)
    oracle = [ndcg_score(truth[user : user + 1], scores[user : user + 1], k=cutoff) for user in range(users)]
    np.testing.assert_allclose(found, oracle, rtol=1e-5)


@given(
    seed=st.integers(0, 10**6),
    users=st.integers(0, 5),
    items=st.integers(1, 12),
    count=st.integers(1, 15),
    levels=st.integers(1, 5),
)
def test_top_items_are_those_of_a_full_sort(
    seed: int, users: int, items: int, count: int, levels: int
) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, (users, items)).astype(np.float32)
    excluded = generator.random((users, items)) < generator.random()
    ties = tie_order(items, seed)
    masked = np.where(excluded, -np.inf, scores)
    order = np.lexsort((np.broadcast_to(ties, masked.shape), -masked), axis=1)[:, :count]
    assert top_items(scores, excluded, count, ties).tolist() == order.tolist()


def test_equal_scores_come_in_one_seeded_order_and_not_in_the_catalogues() -> None:
    ties = tie_order(100, seed=0)
    assert sorted(ties) == list(range(100))
    top = top_items(np.zeros((2, 100), np.float32), np.zeros((2, 100), bool), 100, ties)
    assert top[0].tolist() == top[1].tolist() == np.argsort(ties).tolist()
    assert top[0].tolist() != list(range(100))
    assert np.array_equal(ties, tie_order(100, seed=0))


def test_excluded_items_come_last() -> None:
    excluded = np.array([[True, False, False, True]])
    top = top_items(np.array([[9, 1, 2, 8]], np.float32), excluded, 4, tie_order(4, 0))
    assert top[0, :2].tolist() == [2, 1]


def test_constant_and_random_scores_get_what_chance_gives() -> None:
    """A user's every item is as likely to be asked about: the mark is the chance of a hit at each place."""
    generator = np.random.default_rng(0)
    users, items, relevant = 4000, 50, 5
    rows = [generator.choice(items, relevant, replace=False) for _ in range(users)]
    asked = queries(*(row.tolist() for row in rows))
    ties, nothing = tie_order(items, 3), np.zeros((users, items), bool)
    expected = relevant / items * discount(*range(10)) / discount(*range(5))
    constant = top_items(np.ones((users, items), np.float32), nothing, 10, ties)
    random = top_items(generator.random((users, items), np.float32), nothing, 10, ties)
    for ranked in (constant, random):
        assert ndcg(hits(ranked, asked), asked.sizes).mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("hit", "expected"),
    [([True, False], 1.0), ([False, False, True, True], 1 / 3), ([False, False], 0.0), ([], 0.0)],
)
def test_the_reciprocal_rank_is_that_of_the_first_hit(hit: list[bool], expected: float) -> None:
    assert reciprocal_rank(np.array([hit], bool)).tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("ranked", "query", "gain", "expected"),
    [
        ([7, 8, 9], [9, 7], [3.0, 1.0], (1 + 3 / 2) / (3 + 1 / math.log2(3))),
        ([9, 7, 8], [9, 7], [3.0, 1.0], 1.0),
        ([7, 8], [1, 7, 2], [5.0, 2.0, 4.0], 2 / (5 + 4 / math.log2(3))),  # the ideal list has two places
        ([7, -1], [7, 8], [1.0, 1.0], 1 / discount(0, 1)),
        ([7, 8], [7], [0.0], 0.0),  # nothing to be earned
        ([7, 8], [], [], 0.0),
    ],
)
def test_weighted_marks_are_those_computed_by_hand(
    ranked: list[int], query: list[int], gain: list[float], expected: float
) -> None:
    marks = weighted_ndcg(np.array([ranked], np.int32), queries(query), np.array(gain, np.float32))
    assert marks.tolist() == pytest.approx([expected])


def test_weighted_ndcg_is_that_of_scikit_learn_and_with_equal_gains_the_plain_one() -> None:
    generator = np.random.default_rng(1)
    users, items, cutoff = 40, 30, 10
    scores = generator.permuted(np.tile(np.arange(items, dtype=np.float32), (users, 1)), axis=1)
    rows = [generator.choice(items, int(size), replace=False) for size in generator.integers(1, 20, users)]
    asked = queries(*(row.tolist() for row in rows))
    gain = generator.exponential(size=len(asked.item)).astype(np.float32)
    truth = np.zeros((users, items))
    truth[np.repeat(np.arange(users), asked.sizes), asked.item] = gain
    ranked = top_items(scores, np.zeros((users, items), bool), cutoff, tie_order(items, 0))
    oracle = [ndcg_score(truth[user : user + 1], scores[user : user + 1], k=cutoff) for user in range(users)]
    np.testing.assert_allclose(weighted_ndcg(ranked, asked, gain), oracle, rtol=1e-5)
    plain = ndcg(hits(ranked, asked), asked.sizes)
    np.testing.assert_allclose(weighted_ndcg(ranked, asked, np.full_like(gain, 0.2)), plain, rtol=1e-5)


def test_a_gain_is_what_the_user_earned_with_the_item() -> None:
    asked = queries([1, 3], [], [3])
    item = np.array([3, 1, 3, 2, 3, 3, 3], np.int32)
    reward = np.array([1, 0.5, 1, 1, 9, 0.2, -1], np.float32)
    offsets = np.array([0, 4, 5, 7])  # user 0: 3 1 3 2, user 1: 3, user 2: 3 3
    assert reward_gains(asked, offsets, item, reward, 5).tolist() == pytest.approx([0.5, 2.0, 0.0])
