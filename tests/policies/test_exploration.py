"""Propensities held against an enumeration of every list."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import ExplorationConfig
from recsys.policies.exploration import ListDistribution, draw_list, policy_name

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


VECTORS = np.array([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]], np.float32)
SAMPLES = np.array([[0.9, 0.7, 0.4, 0.1], [0.2, 0.8, 0.3, 0.1], [0.5, 0.1, 0.6, 0.9]], np.float32)
DIVERSITY = 0.5


def chances_by_hand(
    scores: np.ndarray, above: tuple[int, ...], config: ExplorationConfig
) -> dict[int, float]:
    """Return the probability of each item left, from the definition."""
    left = [place for place in range(len(scores)) if place not in above]
    alike = {place: max([0.0, *(float(VECTORS[place] @ VECTORS[one]) for one in above)]) for place in left}
    value = {place: float(scores[place]) - config.diversity * alike[place] for place in left}
    if config.kind == "plackett_luce":
        weight = {place: np.exp(value[place] / config.temperature) for place in left}
        return {place: weight[place] / sum(weight.values()) for place in left}
    epsilon = 0.0 if config.kind == "greedy" else config.epsilon
    best = max(left, key=lambda place: value[place])
    return {place: epsilon / len(left) + (1 - epsilon) * (place == best) for place in left}


def list_by_hand(order: tuple[int, ...], scores: np.ndarray, config: ExplorationConfig) -> list[float]:
    """Return the probability of each item of a list given those above it, draws of the posterior summed out."""
    belief = np.full(len(scores), 1 / len(scores))
    told = []
    for position, place in enumerate(order):
        likelihood = np.array([chances_by_hand(one, order[:position], config)[place] for one in scores])
        told.append(float(belief @ likelihood))
        if told[-1] == 0:
            return [*told, *[0.0] * (len(order) - position - 1)]
        belief = belief * likelihood / told[-1]
    return told


EVERY = [
    ExplorationConfig(kind="greedy", diversity=DIVERSITY),
    ExplorationConfig(kind="epsilon", epsilon=0.3),
    ExplorationConfig(kind="epsilon", epsilon=0.3, diversity=DIVERSITY),
    ExplorationConfig(kind="plackett_luce", temperature=0.3, diversity=DIVERSITY),
    ExplorationConfig(kind="thompson", samples=3, epsilon=0.2),
    ExplorationConfig(kind="thompson", samples=3, epsilon=0.2, diversity=DIVERSITY),
    ExplorationConfig(kind="thompson", samples=3, epsilon=0.0),
]


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("config", EVERY, ids=policy_name)
def test_every_policy_draws_each_list_as_often_as_the_product_of_its_propensities(
    config: ExplorationConfig, length: int
) -> None:
    scores = SAMPLES if config.kind == "thompson" else SCORES[None]
    lists = {order: list_by_hand(order, scores, config) for order in permutations(range(4), length)}
    assert sum(np.prod(told) for told in lists.values()) == pytest.approx(1.0)
    generator, draws = np.random.default_rng(0), 6_000
    seen = dict.fromkeys(lists, 0)
    for _ in range(draws):
        places, propensities = draw_list(SCORES, length, config, generator, samples=SAMPLES, vectors=VECTORS)
        order = tuple(places.tolist())
        assert propensities.tolist() == pytest.approx(lists[order], rel=1e-5)
        seen[order] += 1
    for order, count in seen.items():
        probability = float(np.prod(lists[order]))
        assert (
            abs(count / draws - probability) <= 4.5 * np.sqrt(probability * (1 - probability) / draws) + 1e-12
        )


def test_diversity_changes_what_is_shown_and_a_share_of_none_changes_nothing() -> None:
    alike = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    diverse = ExplorationConfig(kind="greedy", diversity=1.0)
    places, _ = draw_list(SCORES, 4, diverse, np.random.default_rng(0), vectors=alike)
    assert places.tolist() == [0, 2, 1, 3]
    one = draw_list(SCORES, 4, DRAWN, np.random.default_rng(3))
    same = draw_list(SCORES, 4, DRAWN, np.random.default_rng(3), vectors=alike)
    np.testing.assert_array_equal(one[1], same[1])
    with pytest.raises(ValueError, match="diversity needs the candidates' vectors"):
        draw_list(SCORES, 4, diverse, np.random.default_rng(0))


def test_without_draws_thompson_is_epsilon_and_says_so() -> None:
    thompson = ExplorationConfig(kind="thompson", samples=8, epsilon=0.3)
    epsilon = ExplorationConfig(kind="epsilon", epsilon=0.3)
    one, other = (draw_list(SCORES, 3, each, np.random.default_rng(5)) for each in (thompson, epsilon))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert policy_name(thompson) == "thompson(samples=8, epsilon=0.3)"
    assert policy_name(thompson, "ease", sampled=False) == "ease/epsilon(epsilon=0.3)"
    assert ExplorationConfig(kind="softmax") == ExplorationConfig(kind="plackett_luce")


@pytest.mark.parametrize("kind", ["greedy", "epsilon", "plackett_luce", "thompson"])
@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_the_distribution_of_a_list_gives_what_drawing_it_gave(kind: str, diversity: float) -> None:
    config = ExplorationConfig.model_validate({"kind": kind, "diversity": diversity, "samples": 5})
    generator = np.random.default_rng(4)
    items = np.array([11, 5, 8, 3, 9, 2, 7], np.int32)
    scores = -np.sort(-generator.normal(size=7).astype(np.float32))
    samples = (scores + generator.normal(size=(5, 7))).astype(np.float32) if kind == "thompson" else None
    vectors = generator.normal(size=(7, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    could = ListDistribution(
        items,
        np.float64(scores[None] if samples is None else samples),
        config,
        vectors if diversity else None,
    )
    for seed in range(20):
        places, propensities = draw_list(
            scores, 4, config, np.random.default_rng(seed), samples, vectors if diversity else None
        )
        assert could.propensities(items[places]) == pytest.approx(propensities, rel=1e-4)
        assert could.given_above(items[places]).sum(axis=1) == pytest.approx(1.0)


def test_a_shown_item_that_is_no_candidate_takes_nobodys_place() -> None:
    could = ListDistribution.softmax(np.array([4, 6], np.int32), np.log([0.75, 0.25]))
    assert could.given_above(np.array([99, 4, 6])) == pytest.approx(
        np.array([[0.75, 0.25], [0.75, 0.25], [0, 1]])
    )
    assert could.propensities(np.array([99, 4, 6])).tolist() == pytest.approx([0.0, 0.75, 1.0])
    assert could.given_above(np.array([4, 6, 99]))[2].tolist() == [0.0, 0.0]


def test_without_a_draw_the_best_that_is_left_is_sure() -> None:
    lists = ListDistribution(np.arange(3, dtype=np.int32), np.array([[3.0, 2.0, 1.0]]), GREEDY)
    assert lists.propensities(np.array([0, 1, 2])).tolist() == [1.0, 1.0, 1.0]
    assert lists.propensities(np.array([1, 0, 2])).tolist() == [0.0, 1.0, 1.0]
