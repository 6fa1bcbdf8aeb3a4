"""The belief about a simulated user is the posterior: calibrated, and where nothing is hidden it acts optimally."""

import numpy as np
import pytest

from recsys.logs.simulator_belief import first_belief, run_belief, updated_belief
from recsys.logs.simulator_policies import myopic_policy, optimal_policy, random_policy
from recsys.logs.simulator_values import solve
from tests.logs.simulator_worlds import small_world


def test_belief_is_calibrated():
    """Of all pairs of user and hidden state, those believed with b are true with frequency b, in every bin."""
    world = small_world(session_end=(0.3, 0.4, 0.5))  # many returns, each of which tells about trust
    generator = np.random.default_rng(0)
    users = world.begin(30_000, generator)
    belief = first_belief(world, users.segment)
    for _ in range(8):
        item, _ = random_policy(world).act(users, generator)
        outcome = world.step(users, item, generator)
        stays = ~outcome.terminated
        belief = updated_belief(world, belief, users, item, outcome)[stays]
        users = outcome.users.at(stays)
    assert belief.sum(axis=(1, 2)) == pytest.approx(1.0)
    truth = np.zeros_like(belief)
    truth[np.arange(len(users)), users.type, users.trust] = 1.0
    bins = np.digitize(belief, [0.02, 0.1, 0.3, 0.6])
    for place in range(5):
        inside = belief[bins == place]
        error = np.sqrt((inside * (1 - inside)).sum())
        assert len(inside) > 100
        assert truth[bins == place].sum() == pytest.approx(inside.sum(), abs=4 * error), place


def test_where_segments_tell_all_and_trust_stands_still_the_belief_is_optimal():
    world = small_world(segments=3, segment_fidelity=1.0, trust_move=(0.0, 0.0, 0.0))
    mean, half = run_belief(world, solve(world).value, 20_000, np.random.default_rng(0)).interval()
    assert mean == pytest.approx(optimal_policy(world).start_value(world), abs=2 * half)
    nothing = np.zeros(world.settings.shape)
    mean, half = run_belief(world, nothing, 20_000, np.random.default_rng(0), 0.0).interval()
    assert mean == pytest.approx(myopic_policy(world).start_value(world), abs=2 * half)


def test_history_alone_allows_most_of_the_optimum_and_only_to_who_plans():
    world = small_world()
    best = solve(world)
    planned, _ = run_belief(world, best.value, 5000, np.random.default_rng(0)).interval()
    myopic, _ = run_belief(world, best.value, 5000, np.random.default_rng(0), 0.0).interval()
    optimum = optimal_policy(world).start_value(world)
    assert 0.85 * optimum < planned < optimum
    assert myopic < 0.8 * planned
