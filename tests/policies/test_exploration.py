"""Propensities held against an enumeration of every list."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import ExplorationConfig
from recsys.policies.exploration import draw_list, list_distribution, policy_name

SCORES = np.array([0.9, 0.7, 0.4, 0.1], np.float32)
DRAWN = ExplorationConfig(kind="plackett_luce", temperature=0.3)
GREEDY = ExplorationConfig(kind="greedy")


def exact(order: tuple[int, ...], scores: np.ndarray = SCORES, temperature: float = 0.3) -> list[float]:
    """Return the probability of each item of a list given those above it."""
    weight = np.exp(scores.astype(np.float64) / temperature)
    left = weight.sum() - np.cumsum([0.0, *weight[list(order)][:-1]])
    return (weight[list(order)] / left).tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_propensities_and_frequencies_are_those_of_the_enumeration(length: int) -> None:
    lists = {order: exact(order) for order in permutations(range(4), length)}
    assert sum(np.prod(p) for p in lists.values()) == pytest.approx(1.0)
    generator, draws = np.random.default_rng(0), 20_000
    seen = dict.fromkeys(lists, 0)
    for _ in range(draws):
        places, propensities = draw_list(SCORES, length, DRAWN, generator)
        order = tuple(places.tolist())
        assert propensities.tolist() == pytest.approx(lists[order], rel=1e-4)
        seen[order] += 1
    for order, count in seen.items():
        probability = float(np.prod(lists[order]))
        assert abs(count / draws - probability) < 4.5 * np.sqrt(probability / draws)


def test_greedy_shows_the_best_with_certainty() -> None:
    places, propensities = draw_list(SCORES, 3, GREEDY, np.random.default_rng(0))
    assert places.tolist() == [0, 1, 2]
    assert propensities.tolist() == [1.0, 1.0, 1.0]


@given(
    scores=st.lists(st.floats(-1e3, 1e3, width=32), max_size=30),
    count=st.integers(0, 40),
    temperature=st.sampled_from([1e-3, 0.02, 1.0, 100.0]),
    seed=st.integers(0, 100),
)
def test_any_scores_give_a_list_of_distinct_places_with_probabilities(
    scores: list[float], count: int, temperature: float, seed: int
) -> None:
    config = ExplorationConfig(temperature=temperature)
    ranked = -np.sort(-np.array(scores, np.float32))
    places, propensities = draw_list(ranked, count, config, np.random.default_rng(seed))
    assert len(places) == len(propensities) == min(count, len(scores))
    assert len(set(places.tolist())) == len(places)
    assert ((propensities >= 0) & (propensities <= 1 + 1e-6)).all()
    if len(places) == len(scores) and len(places):
        assert propensities[-1] == pytest.approx(1.0)  # only one item is left
    again, _ = draw_list(ranked, count, config, np.random.default_rng(seed))
    assert places.tolist() == again.tolist()


def test_a_cold_policy_is_nearly_greedy_and_a_hot_one_nearly_uniform() -> None:
    cold, _ = draw_list(SCORES, 4, ExplorationConfig(temperature=1e-3), np.random.default_rng(1))
    assert cold.tolist() == [0, 1, 2, 3]
    _, hot = draw_list(SCORES, 4, ExplorationConfig(temperature=1e5), np.random.default_rng(1))
    assert hot.tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1], rel=1e-3)


def test_logs_can_tell_the_policies_apart() -> None:
    assert policy_name(GREEDY) == "greedy"
    assert policy_name(ExplorationConfig(temperature=0.02)) == "plackett_luce(temperature=0.02)"


def test_the_distribution_of_lists_gives_drawn_lists_their_own_propensities() -> None:
    scores = np.array([3.0, 2.5, 1.0, 0.2, -1.0], np.float32)
    config = ExplorationConfig(temperature=0.7)
    items = np.array([10, 11, 12, 13, 14], np.int32)
    lists = list_distribution(scores, items, config)
    for seed in range(20):
        places, propensities = draw_list(scores, 3, config, np.random.default_rng(seed))
        np.testing.assert_allclose(lists.propensities(items[places]), propensities, rtol=1e-5)
        np.testing.assert_allclose(lists.given_above(items[places]).sum(axis=1), 1.0)
    assert lists.propensities(np.array([99, 10])).tolist()[0] == 0.0


def test_without_a_draw_the_best_that_is_left_is_sure() -> None:
    lists = list_distribution(
        np.array([3.0, 2.0, 1.0], np.float32), np.arange(3, dtype=np.int32), ExplorationConfig(kind="greedy")
    )
    assert lists.propensities(np.array([0, 1, 2])).tolist() == [1.0, 1.0, 1.0]
    assert lists.propensities(np.array([1, 0, 2])).tolist() == [0.0, 1.0, 1.0]
