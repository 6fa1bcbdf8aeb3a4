"""Co-occurrence factors held against the square root of the matrix they factor."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from recsys.config import FactorsConfig
from recsys.learning.factors import cooccurrence_factors, item_statistics, rotate_onto
from recsys.logs.interactions import interaction_matrix
from recsys.logs.overlap import shrunk_similarity
from tests.memory_log import Event, Told, memory_log, random_told, taken

ITEMS = 8


def dense_log():
    generator = np.random.default_rng(0)
    return memory_log([random_told(generator, 15, ITEMS) for _ in range(40)], items=ITEMS)


def test_an_interaction_is_a_rewarded_training_event_counted_once() -> None:
    told = [
        Told([Event(1), Event(1), Event(2, reward=-1.0), Event(3, reward=0.2), Event(4)], train_end=4),
        taken(0, train_end=0),
        taken(5, 1),
    ]
    matrix = interaction_matrix(memory_log(told, items=6), np.array([2, 0, 1]))
    assert matrix.toarray().tolist() == [[0, 1, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]


def test_products_of_all_factors_are_the_square_root_of_the_scaled_co_occurrence() -> None:
    log = dense_log()
    matrix = interaction_matrix(log, np.arange(40))
    dense = matrix.toarray().astype(np.float64)
    config = FactorsConfig(features=ITEMS, history_power=0.25, item_power=0.5, smoothing=10.0)
    factors = cooccurrence_factors(matrix, config, seed=0).astype(np.float64)
    scaled = np.maximum(dense.sum(1), 1)[:, None] ** -0.25 * dense * (dense.sum(0) + 10.0) ** -0.5
    expected = np.real(sqrtm(scaled.T @ scaled))
    # one direction is cut and the scale is free: compare the best rank below full, up to a factor
    values, vectors = np.linalg.eigh(expected)
    expected = (vectors[:, 1:] * values[1:]) @ vectors[:, 1:].T
    found = factors @ factors.T
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-5)


def test_factors_have_unit_length_on_average_and_unseen_items_none() -> None:
    log = memory_log([taken(0, 1, 2), taken(1, 2, 3), taken(0, 3)], items=6)
    statistics = item_statistics(log, np.arange(3), FactorsConfig(features=16), seed=0)
    assert statistics.popularity.tolist() == [2, 2, 2, 2, 0, 0]
    assert statistics.factors.shape == (6, 16)
    assert not statistics.factors[4:].any()
    assert (statistics.factors[:4] ** 2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_products_of_all_shrunk_factors_are_a_power_of_what_is_positive_in_the_similarity(
    power: float,
) -> None:
    matrix = interaction_matrix(dense_log(), np.arange(40))
    config = FactorsConfig(
        features=ITEMS, history_power=0.25, item_power=0.4, smoothing=2.0, shrinkage=6.0, spectrum_power=power
    )
    factors = cooccurrence_factors(matrix, config, seed=0).astype(np.float64)
    similarity = shrunk_similarity(matrix, 0.25, 0.4, 2.0, 6.0, most_pairs=10**6).toarray()
    values, vectors = np.linalg.eigh(similarity.astype(np.float64))
    kept = np.maximum(values[1:], 0.0) ** power  # of eight directions the least is cut
    expected = (vectors[:, 1:] * kept) @ vectors[:, 1:].T
    found = factors @ factors.T
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-5)


def test_rows_beside_a_log_without_histories_are_all_that_shrunk_factors_know() -> None:
    none = interaction_matrix(memory_log([taken(0), taken(1)], items=6), np.arange(0))
    prior = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    config = FactorsConfig(features=6, shrinkage=5.0, spectrum_power=1.0)
    factors = cooccurrence_factors(none, config, 0, prior).astype(np.float64)
    found, expected = factors @ factors.T, prior.T @ prior
    left = np.linalg.svd(prior.astype(np.float64))
    expected = (left[2][:2].T * left[1][:2] ** 2) @ left[2][:2]  # rank is one below the rows
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-5)


def test_the_same_seed_gives_the_same_factors() -> None:
    matrix = interaction_matrix(dense_log(), np.arange(40))
    one, other = (cooccurrence_factors(matrix, FactorsConfig(features=4), seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_turning_factors_keeps_their_products_and_finds_a_rotation_back() -> None:
    generator = np.random.default_rng(1)
    factors = generator.normal(size=(20, 5)).astype(np.float32)
    turn, _ = np.linalg.qr(generator.normal(size=(5, 5)))
    turned = rotate_onto(factors, (factors @ turn).astype(np.float32))
    np.testing.assert_allclose(turned, factors @ turn, atol=1e-5)
    np.testing.assert_allclose(turned @ turned.T, factors @ factors.T, atol=1e-4)
