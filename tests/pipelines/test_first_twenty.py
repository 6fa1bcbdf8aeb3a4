"""The contestants of the first twenty interactions, each where its answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.experiments.first_twenty import logged, many_tastes, play, regret_svg
from pipelines.experiments.first_twenty_base import learn_values, shrunk_means
from pipelines.experiments.first_twenty_policies import (
    FoldIn,
    LinearBandit,
    Start,
    adapted,
    features_of,
    item_values,
    unadapted,
    what_follows,
)
from pipelines.experiments.first_twenty_prior import Tastes, learn_tastes
from recsys.logs.prepared import PreparedLog, training_histories
from recsys.logs.simulator import World, make_world
from recsys.mdp.state import StateBatch, encode_states
from recsys.mdp.windows import cut_windows, read_windows
from recsys.policies.als import AlsOptions
from tests.memory_log import Event, history


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(many_tastes(), 3)


@pytest.fixture(scope="module")
def log(world: World) -> PreparedLog:
    return logged(world, 3, 600)


@pytest.fixture(scope="module")
def start(log: PreparedLog) -> Start:
    return Start.of(log)


@pytest.fixture(scope="module")
def tastes(start: Start) -> Tastes:
    return learn_tastes(start.log, start.shown, start.values, start.fresh, features=4, seed=0)


def shown(log: PreparedLog) -> StateBatch:
    bought, seen = (log.info.event_types.index(name) for name in ("purchase", "impression"))
    events = Event(5, reward=1.0, event_type=bought), Event(9, second=60, reward=0.0, event_type=seen)
    states = encode_states([history(*events), history()], max_events=20)
    return replace(states, attributes=torch.ones(2, 1, dtype=torch.int64))


def test_what_follows_is_the_discounted_sum_within_a_life() -> None:
    found = what_follows(np.array([1.0, 2.0, 4.0, 8.0, 1.0], np.float32), np.array([0, 3, 5]), 0.5)
    assert found.tolist() == [2.0, 2.0, 0.0, 0.5, 0.0]


def test_shrunk_means_of_many_observations_are_their_means() -> None:
    """Items of two kinds with means of their own, seen with weights: many observations leave nothing of the prior."""
    chance = np.random.default_rng(0)
    truth = np.array([0.1, 0.3, 0.5, 0.9], np.float32)
    item = chance.integers(0, 4, 40_000)
    weight = chance.uniform(0.5, 1.0, len(item)).astype(np.float32)
    features = np.array([[1, 0], [1, 0], [1, 1], [1, 1]], np.float32)
    found = shrunk_means(features, item, weight * truth[item], weight, 40.0)
    assert found.tolist() == pytest.approx(truth.tolist(), abs=0.005)
    never = shrunk_means(features, item[item < 3], (weight * truth[item])[item < 3], weight[item < 3], 40.0)
    assert never[3] == pytest.approx(truth[2], abs=0.005)  # what was never shown is what its kind is


def test_freshness_of_a_log_and_of_states_is_one_formula(log: PreparedLog, start: Start) -> None:
    windows = cut_windows(log, training_histories(log)[:40], 10_000, 1, np.random.default_rng(0))
    states = read_windows(log, windows, None)
    fresh = start.values.fresh_then(states)
    flat = torch.from_numpy(
        np.concatenate([start.fresh[a:b] for a, b in zip(windows.start, windows.end, strict=True)])
    )
    torch.testing.assert_close(fresh[states.present], flat, rtol=1e-4, atol=1e-5)
    # and what is said of the next item is what is said of it once it has been shown, where the session goes on
    row = int(torch.nonzero(states.lengths > 3)[0, 0])
    for length in range(3):
        before = read_windows(log, windows.take(np.array([row])), None)
        cut = type(before)(
            **{**vars(before), "lengths": torch.tensor([length])}
            | {
                name: getattr(before, name)[:, : max(length, 1)]
                for name in ("item", "event_type", "reward", "had")
            }
            | {name: getattr(before, name)[:, : max(length, 1)] for name in ("log_gap", "new_session")}
        )
        if length and not before.new_session[0, 1 : length + 1].any():
            now = start.values.fresh_now(cut)[0, before.item[0, length]]
            assert float(now) == pytest.approx(float(start.values.fresh_then(before)[0, length]), rel=1e-5)


def test_what_was_just_shown_is_answered_less(world: World, start: Start) -> None:
    """The world's freshness falls to .8 and .6 with the topic's count; segments' liking of topics must not hide it."""
    assert world.settings.freshness == (1.0, 0.8, 0.6)
    many = learn_values(logged(world, 3, 4000))[0]
    assert float(many.staleness.min()) > 0.05
    assert float(many.staleness.max()) < 0.5


def test_the_bandit_is_the_posterior_of_a_linear_model(log: PreparedLog, start: Start) -> None:
    made = LinearBandit.of(start, discount=0.5, prior_variance=0.01, alpha=0.0)
    states, values = shown(log), start.values
    fresh = values.fresh_then(states)[0].double()
    told = features_of(log).double()[[5, 9]] * fresh[:, None]
    precision = torch.eye(told.shape[1]) / 0.01 + told.T @ told / made.noise
    beyond = torch.tensor([1.0, 0.0]) - fresh * values.chance[1, [5, 9]]
    mean = torch.linalg.solve(precision, told.T @ beyond / made.noise)
    liked = values.chance[1] + features_of(log).double() @ mean
    wanted = values.fresh_now(states)[0] * values.worth * liked + start.later(0.5)
    assert int(made(states)[0]) == int(wanted.argmax())
    assert int(made(states)[1]) == int(unadapted(start, 0.5)(states)[1])


def test_before_any_event_nothing_is_adapted(log: PreparedLog, start: Start, tastes: Tastes) -> None:
    values, states = item_values(log, 0.0), shown(log)
    fold_in = FoldIn.of(log, AlsOptions(features=8), values, repeats=False)
    assert int(fold_in(states)[1]) == int(values.argmax())
    assert int(fold_in(states)[0]) not in (5, 9)
    assert int(adapted(start, tastes, 0.5, alpha=0.0)(states)[1]) == int(unadapted(start, 0.5)(states)[1])


def test_the_inner_loop_is_the_posterior_under_the_learnt_prior(
    log: PreparedLog, start: Start, tastes: Tastes
) -> None:
    states, values = shown(log), start.values
    fresh = values.fresh_then(states)[0].double()
    loaded = tastes.vectors[[5, 9]].double() * fresh[:, None]
    noise = tastes.prior.log_noise.double().exp()
    beyond = torch.tensor([1.0, 0.0]) - fresh * values.chance[1, [5, 9]]
    precision = loaded.T @ loaded / noise + torch.eye(4)
    mean = torch.linalg.solve(precision, loaded.T @ beyond / noise)
    fast = tastes.adapt(values, states)
    torch.testing.assert_close(fast.mean[0].double(), mean, rtol=1e-4, atol=1e-5)
    spread = (tastes.vectors.double() @ torch.linalg.inv(precision) * tastes.vectors.double()).sum(-1)
    torch.testing.assert_close(tastes.variance(fast)[0].double(), spread, rtol=1e-3, atol=1e-5)


def test_a_learnt_prior_explains_users_and_brings_more_than_the_same_values_without_it(
    world: World, log: PreparedLog, start: Start, tastes: Tastes
) -> None:
    shown = start.shown
    unexplained = (
        shown.answered - start.fresh * start.values.chance.numpy()[shown.segment, shown.item]
    ).var()
    assert float(tastes.prior.log_noise.detach().exp()) < 0.98 * unexplained
    one = play(world, log, adapted(start, tastes, 0.5, alpha=0.2), 600, seed=5)
    other = play(world, log, unadapted(start, 0.5), 600, seed=5)
    gain = one[-1] - other[-1]
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_the_picture_holds_every_policy_but_the_reference() -> None:
    run = {
        "regret": {"adapted": [0.1] * 20, "LinUCB": [0.2] * 20, "optimal, sees the hidden state": [0.0] * 20}
    }
    picture = regret_svg({"7": run})
    assert "LinUCB" in picture
    assert "optimal" not in picture
