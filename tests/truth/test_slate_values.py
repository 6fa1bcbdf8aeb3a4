"""Estimators of lists against values known by enumeration: which assumption each needs, and what breaks it."""

from itertools import permutations

import numpy as np
import pytest

from recsys.evaluation.ope.accumulate import Accumulator
from recsys.evaluation.ope.lists import ASSUMPTIONS, Assumption, ListRounds, list_columns
from recsys.evaluation.ope.slates import (
    Slates,
    pseudo_inverse_weights,
    slate_cascade_dr,
    slate_independent,
    slate_interaction,
    slate_interaction_normalised,
    slate_pseudo_inverse,
    slate_standard,
)

ITEMS, LENGTH, LISTS, LOGS = 5, 3, 400, 250
ALL = np.array(list(permutations(range(ITEMS), LENGTH)))
APPEAL = np.array([0.9, 0.7, 0.5, 0.3, 0.1])


def draw_chances(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (probability of every list, probability of each item given those above) under Plackett-Luce."""
    weight = np.exp(scores)[ALL]
    above = np.concatenate([np.zeros((len(ALL), 1)), np.cumsum(weight, axis=1)[:, :-1]], axis=1)
    given = weight / (np.exp(scores).sum() - above)
    return given.prod(axis=1), given


LOGGED, LOGGED_GIVEN = draw_chances(np.array([0.5, 0.1, 0.0, 0.3, 0.6]))
WANTED, WANTED_GIVEN = draw_chances(np.array([1.0, 0.7, 0.2, 0.0, -0.4]))


def means(kind: str) -> np.ndarray:
    """Return the mean reward of every position of every list, (list, position)."""
    own = APPEAL[ALL]
    if kind == "independent":
        return own * np.array([1.0, 0.6, 0.3])
    if kind == "cascade":  # a good item above takes the attention of those below
        unmoved = np.concatenate([np.ones((len(ALL), 1)), np.cumprod(1.0 - own, axis=1)[:, :-1]], axis=1)
        return own * unmoved
    return own * own.max(axis=1, keepdims=True)  # whole: the best item shines on all


def truth(kind: str) -> float:
    return float((WANTED[:, None] * means(kind)).sum())


def logged(kind: str, generator: np.random.Generator, lists: int = LISTS, *, model: bool = False) -> Slates:
    rows = generator.choice(len(ALL), lists, p=LOGGED)
    reward = (generator.random((lists, LENGTH)) < means(kind)[rows]).astype(float)
    q_logged = value = None
    if (
        model
    ):  # q̂ of a position: its item's own appeal, and half a click for what follows; wrong, as models are
        q_logged = APPEAL[ALL[rows]] * 0.5 + 0.5 * (LENGTH - 1 - np.arange(LENGTH))
        value = np.zeros((lists, LENGTH))
        weight = np.exp(np.array([1.0, 0.7, 0.2, 0.0, -0.4]))
        for place, row in enumerate(rows):
            for k in range(LENGTH):
                left = np.setdiff1d(np.arange(ITEMS), ALL[row, :k])
                share = weight[left] / weight[left].sum()
                value[place, k] = share @ APPEAL[left] * 0.5 + 0.5 * (LENGTH - 1 - k)
    return Slates(reward, LOGGED_GIVEN[rows], WANTED_GIVEN[rows], np.full(lists, LENGTH), q_logged, value)


def bias_in_errors(kind: str, estimator: object, logs: int = LOGS, **how: bool) -> float:
    generator = np.random.default_rng(4)
    values = []
    for _ in range(logs):
        terms = estimator(logged(kind, generator, **how))  # type: ignore[operator]
        bottom = LISTS if terms.denominator is None else terms.denominator.sum()
        values.append(terms.numerator.sum() / bottom)
    return float((np.mean(values) - truth(kind)) / (np.std(values) / np.sqrt(logs)))


@pytest.mark.parametrize("kind", ["independent", "cascade", "whole"])
def test_weighting_the_whole_list_needs_no_assumption(kind: str) -> None:
    assert abs(bias_in_errors(kind, slate_standard)) < 4.0


@pytest.mark.parametrize("kind", ["independent", "cascade"])
def test_weighting_what_lies_above_is_right_for_cascades(kind: str) -> None:
    assert abs(bias_in_errors(kind, slate_interaction)) < 4.0
    assert (
        abs(bias_in_errors(kind, slate_interaction_normalised)) < 6.0
    )  # a ratio: its bias is of order 1 / lists
    assert abs(bias_in_errors(kind, slate_cascade_dr, logs=60, model=True)) < 4.0


def test_the_wrong_assumption_shows() -> None:
    assert abs(bias_in_errors("whole", slate_interaction, logs=600)) > 5.0
    assert abs(bias_in_errors("cascade", slate_independent)) > 6.0


def test_fewer_weights_vary_less() -> None:
    generator = np.random.default_rng(5)
    estimators = (slate_standard, slate_interaction, slate_independent)
    values = [
        [estimator(slates).numerator.mean() for estimator in estimators]
        for slates in (logged("independent", generator) for _ in range(LOGS))
    ]
    spread = np.std(values, axis=0)
    assert spread[0] > 1.1 * spread[1] > 1.1 * spread[2]


def test_marginal_probabilities_make_the_independent_weights_exact() -> None:
    """With the probability of an item at a position, not that given those above, the estimator is unbiased."""
    marginal = np.zeros((2, LENGTH, ITEMS))
    for place, chances in enumerate((LOGGED, WANTED)):
        for k in range(LENGTH):
            marginal[place, k] = np.bincount(ALL[:, k], chances, minlength=ITEMS)
    generator = np.random.default_rng(6)
    values = []
    for _ in range(LOGS):
        rows = generator.choice(len(ALL), LISTS, p=LOGGED)
        reward = (generator.random((LISTS, LENGTH)) < means("independent")[rows]).astype(float)
        p0, p = (marginal[place][np.arange(LENGTH), ALL[rows]] for place in (0, 1))
        values.append(slate_independent(Slates(reward, p0, p, np.full(LISTS, LENGTH))).numerator.mean())
    assert abs(np.mean(values) - truth("independent")) < 4.0 * np.std(values) / np.sqrt(LOGS)


def test_pseudo_inverse_weights_are_right_where_rewards_add_up_over_slots() -> None:
    exact = pseudo_inverse_weights(ALL, *_as_draws(), ITEMS)
    assert float(LOGGED_SHARES @ exact) == pytest.approx(1.0, abs=1e-8)
    total = means("independent").sum(axis=1)
    assert float(LOGGED_SHARES @ (exact * total)) == pytest.approx(float(WANTED_SHARES @ total), abs=1e-8)


def _as_draws() -> tuple[np.ndarray, np.ndarray]:
    """Return lists repeated so that their shares are the policies' probabilities, rounded to 1 / 20 000."""
    return np.repeat(ALL, LOGGED_COUNT, axis=0), np.repeat(ALL, WANTED_COUNT, axis=0)


LOGGED_COUNT, WANTED_COUNT = np.rint(LOGGED * 20_000).astype(int), np.rint(WANTED * 20_000).astype(int)
LOGGED_SHARES, WANTED_SHARES = LOGGED_COUNT / LOGGED_COUNT.sum(), WANTED_COUNT / WANTED_COUNT.sum()


def test_positions_drawn_apart_have_the_pseudo_inverse_in_closed_form() -> None:
    generator = np.random.default_rng(7)
    p0, p = generator.dirichlet(np.full(4, 20.0), 3), generator.dirichlet(np.full(4, 20.0), 3)
    lists = np.array(list(np.ndindex(4, 4, 4)))
    chance = p0[np.arange(3), lists].prod(axis=1)
    counts = np.rint(chance * 200_000).astype(int)
    slates = Slates(np.ones((64, 3)), p0[np.arange(3), lists], p[np.arange(3), lists], np.full(64, 3))
    closed = slate_pseudo_inverse(slates).numerator / 3.0
    wanted = np.rint(p[np.arange(3), lists].prod(axis=1) * 200_000).astype(int)
    general = pseudo_inverse_weights(
        lists, np.repeat(lists, counts, axis=0), np.repeat(lists, wanted, axis=0), 4
    )
    np.testing.assert_allclose(general, closed, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_lists_of_one_item_are_rounds_under_every_assumption(assumption: Assumption) -> None:
    generator = np.random.default_rng(8)
    p0, p = generator.uniform(0.1, 0.9, (2, 50, 1))
    reward = generator.random((50, 1))
    slates = Slates(reward, p0, p, np.ones(50, np.int64), reward * 0.5, reward * 0.4)
    columns = list_columns(ListRounds(slates, assumption))
    weight = (p / p0)[:, 0]
    np.testing.assert_allclose(columns["ips"].numerator, weight * reward[:, 0])
    np.testing.assert_allclose(columns["snips"].denominator, weight)
    if assumption != "whole":
        np.testing.assert_allclose(columns["dr"].numerator, weight * 0.5 * reward[:, 0])
        np.testing.assert_allclose(columns["dr"].base, 0.4 * reward[:, 0])


def test_shorter_lists_are_padded_without_weight() -> None:
    reward = np.array([[1.0, 1.0], [1.0, 99.0]])
    slates = Slates(reward, np.full((2, 2), 0.5), np.array([[0.5, 0.25], [0.25, 0.9]]), np.array([2, 1]))
    assert slate_standard(slates).numerator.tolist() == [1.0, 0.5]
    assert slate_interaction(slates).numerator.tolist() == [1.5, 0.5]
    rounds = ListRounds(slates, "cascade")
    assert rounds.weight.tolist() == [0.75, 0.5]
    added = Accumulator(8)
    added.add(
        {"policy": rounds}, {"logging": list_columns(rounds)["ips"], "snips": list_columns(rounds)["snips"]}
    )
    assert added.sums().estimates()[1] == pytest.approx(2.0 / 1.25)
