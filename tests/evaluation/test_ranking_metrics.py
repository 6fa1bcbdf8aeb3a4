"""Metrics on hand-made lists, and by segment with what many questions cost."""

import numpy as np
import pytest

from recsys.errors import UserError
from recsys.evaluation.beyond_accuracy import (
    catalogue_coverage,
    concentration,
    diversity,
    miscalibration,
    novelty,
)
from recsys.evaluation.ranking import (
    average_precision,
    graded_ndcg,
    hit_rate,
    precision,
    ranked_gains,
    tie_order,
)
from recsys.evaluation.segments import benjamini_hochberg, by_segment, holm, segments_of, sign_flip_test

HIT = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
RELEVANT = np.array([2, 3, 9])


def test_average_precision_is_the_mean_over_what_the_list_could_hold() -> None:
    wanted = [1 / 2 * (1 / 1 + 2 / 3), 0.0, 1 / 4 * (1 / 2)]
    np.testing.assert_allclose(average_precision(HIT, RELEVANT), wanted, rtol=1e-6)


def test_hit_rate_and_precision() -> None:
    assert hit_rate(HIT).tolist() == [1.0, 0.0, 1.0]
    assert precision(HIT).tolist() == [0.5, 0.0, 0.25]


def test_ties_fall_by_the_seeded_order_and_by_nothing_else() -> None:
    ties = tie_order(6, seed=0)
    scores = np.zeros((1, 6), np.float32)
    gain = np.arange(6, dtype=np.float32)[None]
    got = ranked_gains(scores, gain, 6, ties)[0]
    assert got.tolist() == np.argsort(ties).tolist()
    some = np.array([[1.0, 2.0, 2.0, 0.0, 2.0, 1.0]], np.float32)
    assert sorted(ranked_gains(some, gain, 3, ties)[0].tolist()) == [1.0, 2.0, 4.0]
    by_tie = next(item for item in np.argsort(ties) if item in (0, 5))
    assert ranked_gains(some, gain, 4, ties)[0][3] == by_tie


def test_graded_ndcg_of_a_known_list() -> None:
    gain = np.array([[3.0, 2.0, 0.0, 1.0]], np.float32)
    scores = np.array([[0.1, 0.4, 0.3, 0.2]], np.float32)
    ranked = ranked_gains(scores, gain, 2, tie_order(4, 0))
    assert ranked.tolist() == [[2.0, 0.0]]
    assert graded_ndcg(ranked, gain)[0] == pytest.approx(2.0 / (3.0 + 2.0 / np.log2(3)))
    assert graded_ndcg(np.zeros((1, 2), np.float32), np.zeros((1, 4), np.float32))[0] == 0.0


def test_coverage_concentration_and_novelty() -> None:
    ranked = np.array([[0, 1], [0, -1]], np.int32)
    assert catalogue_coverage(ranked, 4) == 0.5
    assert concentration(np.array([[0, 1, 2, 3]], np.int32), 4) == pytest.approx(0.0)
    assert concentration(np.array([[2, 2, 2, 2]], np.int32), 4) == pytest.approx(0.75)
    popularity = np.array([7, 0, 0, 1])
    np.testing.assert_allclose(
        novelty(ranked, popularity), [(-np.log2(8 / 12) - np.log2(1 / 12)) / 2, -np.log2(8 / 12)], rtol=1e-6
    )


def test_diversity_is_one_minus_the_mean_cosine_of_pairs() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    ranked = np.array([[0, 1, 2], [0, 2, -1], [1, -1, -1]], np.int32)
    np.testing.assert_allclose(diversity(ranked, vectors), [1 - 1 / 3, 0.0, 0.0], atol=1e-6)


def test_a_list_like_the_users_past_is_calibrated() -> None:
    categories = np.array([[1.0, 0.0], [0.0, 1.0]])
    ranked = np.array([[0, 0, 1], [0, 0, 0]], np.int32)
    taste = np.array([[2.0, 1.0], [2.0, 1.0]])
    got = miscalibration(ranked, taste, categories)
    assert got[0] == pytest.approx(0.0, abs=1e-9)
    assert got[1] > 1.0
    assert miscalibration(ranked[:1], np.zeros((1, 2)), categories)[0] == 0.0


def test_among_many_segments_without_a_difference_hardly_one_is_found() -> None:
    generator = np.random.default_rng(0)
    found, naive = 0, 0
    for _ in range(100):
        values = generator.normal(size=1000)
        rows = by_segment(values, np.arange(1000) % 20, [str(k) for k in range(20)], generator)
        found += any(row.p_value < 0.05 for row in rows)
        naive += any(abs(values[k::20].mean()) > 1.96 * values[k::20].std() / np.sqrt(50) for k in range(20))
    assert found <= 12
    assert naive > 50


def test_segments_with_a_difference_are_found_and_small_ones_say_so() -> None:
    generator = np.random.default_rng(1)
    segment = np.array([0] * 200 + [1] * 200 + [2] * 5 + [-1] * 50)
    values = generator.normal(size=455) + 0.5 * (segment == 1)
    rows = by_segment(values, segment, ["home", "away", "rare", "nobody"], generator)
    assert [row.segment for row in rows] == ["home", "away", "rare"]
    assert [row.enough for row in rows] == [True, True, False]
    assert rows[1].p_value < 0.001
    assert rows[1].low > 0.0 > rows[0].low
    with pytest.raises(UserError, match="has no name"):
        by_segment(values, segment, ["home"], generator)


def test_adjusted_p_values_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.09, 0.09, 0.5])
    assert benjamini_hochberg(np.array([0.01, 0.02, 0.03, 0.5])).tolist() == [True, True, True, False]
    assert not benjamini_hochberg(np.array([0.2, 0.9])).any()


def test_random_signs_agree_with_the_t_test_on_normal_differences() -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(0.15, 1.0, 200)
    row = by_segment(values, np.zeros(200, int), ["all"], generator)[0]
    assert sign_flip_test(values, generator) == pytest.approx(row.p_value, abs=0.02)
    assert sign_flip_test(np.zeros(10), generator) == 1.0
    assert segments_of(np.array(["b", "a", "b"]))[1] == ["a", "b"]
