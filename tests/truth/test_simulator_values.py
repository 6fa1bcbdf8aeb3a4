"""The simulator's exact values against an independent solution: every item of every state, by dense matrices."""

from itertools import product

import numpy as np
import pytest

from recsys.logs.simulator import UserState, WorldSettings, make_world
from recsys.logs.simulator_policies import (
    logging_policy,
    myopic_policy,
    optimal_policy,
    random_policy,
    run_policy,
)
from recsys.logs.simulator_values import (
    action_values,
    mixture_value,
    myopic_rule,
    rule_value,
    solve,
    start_value,
)
from tests.logs.simulator_worlds import small_world

TINY = {"items": 14, "types": 2, "topics": 2, "memory": 1, "freshness": (1.0, 0.3)}  # 90 states


def dense(world):
    """Return P (item, state, state) and r (item, state), written out case by case from the docs' rules."""
    rules = world.settings
    shape = rules.shape
    states = int(np.prod(shape))
    transition, reward = np.zeros((rules.items, states, states)), np.zeros((rules.items, states))
    for item, (kind_of_user, recent, trust, boredom) in product(range(rules.items), np.ndindex(*shape)):
        here = np.ravel_multi_index((kind_of_user, recent, trust, boredom), shape)
        topic, kind = world.topic[item], world.kind[item]
        seen = int(recent == topic + 1)  # memory 1: `recent` is the last topic + 1
        response = (
            world.taste[kind_of_user, topic]
            * rules.freshness[seen]
            * rules.trust_response[trust]
            * rules.attraction[kind]
            * world.appeal[kind_of_user, item]
        )
        reward[item, here] = response * (0.2 + 0.8 * rules.purchase_share[kind])
        move = rules.trust_move[kind]
        outcomes = (
            (1 - response, trust, min(boredom + 1, 2)),
            (response * (1 - move), trust, 0),
            (response * move, min(max(trust + rules.trust_step[kind], 0), 4), 0),
        )
        for chance, trust_after, boredom_after in outcomes:
            end = rules.session_end[boredom_after]
            stays = np.ravel_multi_index((kind_of_user, topic + 1, trust_after, boredom_after), shape)
            back = np.ravel_multi_index((kind_of_user, 0, trust_after, 0), shape)
            transition[item, here, stays] += chance * (1 - end)
            transition[item, here, back] += chance * end * rules.return_share[trust_after]
    return transition, reward


def user_in_every_state(world):
    kinds, recent, trust, boredom = (part.ravel() for part in np.indices(world.settings.shape, np.int32))
    return UserState(kinds, np.zeros_like(kinds), recent, trust, boredom)


@pytest.fixture(
    scope="module", params=[{}, {"items": 3}, {"trust_step": (-2, 1, 1), "trust_move": (1.0, 0.5, 0.2)}]
)
def world(request):
    """Give tiny worlds: one as usual, one whose classes are mostly empty, one with other lasting effects."""
    return small_world(5, **(TINY | request.param))


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_optimum_is_that_of_value_iteration_over_every_item(world, discount):
    transition, reward = dense(world)
    value = np.zeros(reward.shape[1])
    for _ in range(1500):
        value = (reward + discount * transition @ value).max(axis=0)
    solution = solve(world, discount)
    np.testing.assert_allclose(solution.value.ravel(), value, atol=1e-7)
    users = user_in_every_state(world)
    expected = (reward + discount * transition @ value).T
    np.testing.assert_allclose(action_values(world, solution.value, users, discount), expected, atol=1e-7)
    chosen = expected[np.arange(len(value)), solution.item.ravel()]
    np.testing.assert_allclose(chosen, value, atol=1e-7)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_a_policys_value_solves_its_linear_system(world, discount):
    transition, reward = dense(world)
    identity = np.eye(reward.shape[1])
    for seed in range(3):
        generator = np.random.default_rng(seed)
        rule = generator.integers(world.settings.items, size=world.settings.shape)
        rows = np.arange(reward.shape[1])
        system = identity - discount * transition[rule.ravel(), rows]
        expected = np.linalg.solve(system, reward[rule.ravel(), rows])
        np.testing.assert_allclose(rule_value(world, rule, discount).ravel(), expected, atol=1e-7)
        mix = generator.dirichlet(np.ones(world.settings.items))
        expected = np.linalg.solve(identity - discount * np.tensordot(mix, transition, 1), mix @ reward)
        np.testing.assert_allclose(mixture_value(world, mix, discount).ravel(), expected, atol=1e-7)


def test_the_myopic_rule_takes_the_highest_immediate_reward(world):
    _, reward = dense(world)
    rows = np.arange(reward.shape[1])
    np.testing.assert_allclose(reward[myopic_rule(world).ravel(), rows], reward.max(axis=0), atol=1e-12)


def test_no_rule_beats_the_optimum_anywhere():
    world = small_world()
    best = solve(world).value
    generator = np.random.default_rng(0)
    for rule in (myopic_rule(world), *generator.integers(40, size=(5, *world.settings.shape))):
        assert (rule_value(world, rule) <= best + 1e-8).all()


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_simulated_returns_are_the_exact_values(discount):
    """40 000 lives a policy, four standard errors: a true implementation fails once in thousands of seeds."""
    world = small_world()
    policies = (
        random_policy(world),
        logging_policy(world),
        myopic_policy(world),
        optimal_policy(world, discount),
    )
    means = []
    for place, policy in enumerate(policies):
        lives = run_policy(world, policy, 40_000, np.random.default_rng(place), discount)
        mean, half = lives.interval()
        assert abs(mean - policy.start_value(world, discount)) < 2 * half, policy.name
        assert not lives.truncated.any()
        means.append(mean)
    assert means == sorted(means)  # random < logging < myopic < optimal


def test_long_term_value_is_worth_a_lot_in_the_default_world():
    """As docs/simulator.md says; a discount of 0.8 sees most of it already."""
    world = make_world(WorldSettings(), 7)
    best = start_value(world, solve(world).value)
    assert 0.5 < myopic_policy(world).start_value(world) / best < 0.7
    lives = run_policy(world, random_policy(world), 5000, np.random.default_rng(0))
    assert lives.returns.mean() / best < 0.3
    assert optimal_policy(world, 0.8).start_value(world) / best > 0.95
