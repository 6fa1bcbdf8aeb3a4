"""The contestants of the first twenty interactions, each where its answer is known."""

import numpy as np
import pytest
import torch

from pipelines.experiments.first_twenty import logged, many_tastes, play, regret_svg
from pipelines.experiments.first_twenty_policies import (
    AdaptedHead,
    FoldIn,
    LinearBandit,
    features_of,
    fixed,
    item_values,
    learn_head,
    what_follows,
)
from recsys.logs.prepared import PreparedLog
from recsys.logs.simulator import World, make_world
from recsys.mdp.state import StateBatch, encode_states
from recsys.policies.als import AlsOptions
from tests.memory_log import Event, history


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(many_tastes(), 3)


@pytest.fixture(scope="module")
def log(world: World) -> PreparedLog:
    return logged(world, 3, 600)


def shown(log: PreparedLog) -> StateBatch:
    bought, seen = (log.info.event_types.index(name) for name in ("purchase", "impression"))
    events = Event(5, reward=1.0, event_type=bought), Event(9, second=60, reward=0.0, event_type=seen)
    return encode_states([history(*events), history()], max_events=20)


def test_what_follows_is_the_discounted_sum_within_a_life() -> None:
    found = what_follows(np.array([1.0, 2.0, 4.0, 8.0, 1.0], np.float32), np.array([0, 3, 5]), 0.5)
    assert found.tolist() == [2.0, 2.0, 0.0, 0.5, 0.0]


def test_the_bandit_is_the_posterior_of_a_linear_model(log: PreparedLog) -> None:
    made = LinearBandit.of(log, discount=0.5, prior_variance=0.01, alpha=0.0)
    states, x = shown(log), features_of(log).double()
    told, expected = x[[5, 9]], item_values(log, 0.0).double()
    precision = torch.eye(x.shape[1]) / 0.01 + told.T @ told / made.noise
    beyond = torch.tensor([1.0, 0.0]).double() - expected[[5, 9]]
    mean = torch.linalg.solve(precision, told.T @ beyond / made.noise)
    values = item_values(log, 0.5).double()
    assert made(states).tolist() == [int((values + x @ mean).argmax()), int(values.argmax())]


def test_before_any_event_fold_in_and_head_show_what_is_best_for_everybody(log: PreparedLog) -> None:
    values, states = item_values(log, 0.0), shown(log)
    options = AlsOptions(features=8)
    fold_in = FoldIn.of(log, options, values, repeats=False)
    assert int(fold_in(states)[1]) == int(values.argmax())
    assert int(fold_in(states)[0]) not in (5, 9)
    head = AdaptedHead(log)
    assert int(head.policy(values, alpha=0.0)(states)[1]) == int(values.argmax())


def test_a_learnt_head_brings_more_than_the_same_values_without_it(world: World, log: PreparedLog) -> None:
    torch.manual_seed(0)
    values = item_values(log, 0.0)
    head = learn_head(log, np.random.default_rng(0))
    adapted = play(world, log, head.policy(values, alpha=0.1), 600, seed=5)
    unadapted = play(world, log, fixed(values), 600, seed=5)
    gain = adapted[-1] - unadapted[-1]
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_the_picture_holds_every_policy_but_the_reference() -> None:
    run = {
        "regret": {"adapted": [0.1] * 20, "LinUCB": [0.2] * 20, "optimal, sees the hidden state": [0.0] * 20}
    }
    picture = regret_svg({"7": run})
    assert "LinUCB" in picture
    assert "optimal" not in picture
