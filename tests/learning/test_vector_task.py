"""The update on vector states: a bare dense DQN in its simplest setting, heads and figures in the others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.health import calibration_bins, q_health
from recsys.learning.losses import cross_entropy, quantile_loss, td_loss
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.step_losses import TransitionFigures
from recsys.learning.target_network import frozen_copy
from recsys.mdp.transition import TransitionBatch
from recsys.models.vector_network import VectorNetwork, VectorShape
from tests.truth.tabular import settings

FEATURES, ACTIONS, BATCH = 5, 4, 32


def some_batch(seed: int = 0) -> TransitionBatch:
    generator = torch.Generator().manual_seed(seed)
    return TransitionBatch(
        state=torch.randn(BATCH, FEATURES, generator=generator),
        action=torch.randint(ACTIONS, (BATCH,), generator=generator),
        n_step_return=torch.randn(BATCH, generator=generator),
        bootstrap=torch.rand(BATCH, generator=generator).round() * 0.9,
        next_state=torch.randn(BATCH, FEATURES, generator=generator),
        next_action=torch.randint(-1, ACTIONS, (BATCH,), generator=generator),
        weight=torch.rand(BATCH, generator=generator) + 0.5,
        index=torch.arange(BATCH),
    )


def learner(config: PretrainConfig, temperature: float = 1.0, hidden: tuple[int, ...] = (8,)) -> DQNLearner:
    torch.manual_seed(1)
    shape = VectorShape(
        FEATURES,
        ACTIONS,
        hidden,
        dueling=config.dueling,
        behavior=config.supervised_weight > 0,
        return_head=config.return_weight > 0,
        quantiles=config.quantiles,
    )
    network, other = VectorNetwork(shape, temperature), VectorNetwork(shape, temperature)
    return DQNLearner(network, frozen_copy(other), None, config, None, torch.Generator().manual_seed(0))


def bare_copy(network: VectorNetwork) -> nn.Sequential:
    bare = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, ACTIONS))
    ours = [*network.encoder.parameters(), *network.actions.parameters()]
    with torch.no_grad():
        for mine, theirs in zip(bare.parameters(), ours, strict=True):
            mine.copy_(theirs)
    return bare


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("conservative", [0.0, 0.3])
def test_without_extras_it_is_a_dense_dqn_to_the_last_weight(double: bool, conservative: float) -> None:
    config = settings(double=double, conservative_weight=conservative, max_gradient_norm=None)
    made = learner(config)
    assert isinstance(made.network, VectorNetwork)
    assert isinstance(made.target, VectorNetwork)
    bare, slow = bare_copy(made.network), bare_copy(made.target)
    optimizer, plain = optimizer_for(made.network, 0.01, 0.0), torch.optim.Adam(bare.parameters(), lr=0.01)
    for update in range(5):
        batch = some_batch(update)
        step(optimizer, made.losses(batch).total, max_gradient_norm=None)
        with torch.no_grad():
            chooser = bare if double else slow
            best = chooser(batch.next_state).argmax(1, keepdim=True)
            goal = batch.n_step_return + batch.bootstrap * slow(batch.next_state).gather(1, best)[:, 0]
        q_all = bare(batch.state)
        q_value = q_all.gather(1, batch.action[:, None])[:, 0]
        loss = 0.5 * (q_value - goal) ** 2 + conservative * (q_all.logsumexp(1) - q_value)
        plain.zero_grad()
        (loss * batch.weight).mean().backward()
        plain.step()
    for mine, theirs in zip(bare_copy(made.network).parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_an_action_side_gives_the_q_of_all_actions() -> None:
    for changes in ({}, {"dueling": True}):
        network = learner(settings(**changes)).network
        assert isinstance(network, VectorNetwork)
        states = network(some_batch().state)
        side = network.item_side(torch.arange(ACTIONS))
        by_hand = states.value[:, None] + states.advantage @ side.vectors.T + side.bias
        torch.testing.assert_close(network.q_all(states), by_hand)


def test_served_q_is_the_mean_over_quantiles() -> None:
    network = learner(settings(quantiles=7)).network
    assert isinstance(network, VectorNetwork)
    batch = some_batch()
    offsets = network.quantile_offsets(network(batch.state), batch.action, network.item_side(batch.action))
    assert offsets.shape == (BATCH, 7)
    torch.testing.assert_close(offsets.mean(1), torch.zeros(BATCH), atol=1e-6, rtol=0)
    assert offsets.std() > 0.01


def test_quantile_regression_of_a_lone_sample_finds_its_quantiles() -> None:
    """Minimum of the pinball loss against 1, 2, …, 8 at four levels 1/8, 3/8, 5/8, 7/8: 1.5, 3.5, 5.5, 7.5 ± 0.5."""
    target = torch.arange(1.0, 9.0)[None]
    quantile = torch.zeros(1, 4, requires_grad=True)
    optimizer = torch.optim.Adam([quantile], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        quantile_loss(quantile, target, 0.01).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(quantile.detach()[0], [1.5, 3.5, 5.5, 7.5], atol=0.6)


def test_losses_of_single_gaps_are_those_of_the_formulas() -> None:
    q_value, target = torch.zeros(3), torch.tensor([0.5, -2.0, 4.0])
    assert td_loss(q_value, target, "mse", 1.0).tolist() == [0.125, 2.0, 8.0]
    assert td_loss(q_value, target, "huber", 1.0).tolist() == [0.125, 1.5, 3.5]
    assert td_loss(q_value, target, "huber", 2.0).tolist() == [0.0625, 1.0, 3.0]
    # one quantile of level 1/2 against one target: half the Huber loss
    assert quantile_loss(torch.zeros(1, 1), torch.tensor([[4.0]]), 1.0).tolist() == [1.75]
    logits = torch.log(torch.tensor([[0.2, 0.8]]))
    assert float(cross_entropy(logits, torch.tensor([0]))) == pytest.approx(-np.log(0.2), rel=1e-5)


def test_each_transition_tells_its_error_for_the_next_priority() -> None:
    made = learner(settings(target="supported_max", supervised_weight=1.0, return_weight=1.0))
    batch = some_batch()
    losses = made.losses(batch)
    figures = losses.figures
    assert figures is not None
    assert not any(x.requires_grad for x in (figures.td_error, figures.q_value, figures.max_q))
    squared = 0.5 * figures.td_error**2 * batch.weight
    assert float(squared.mean()) == pytest.approx(float(losses.td), rel=1e-5)
    doubled = replace(batch, weight=batch.weight * 2)
    assert float(made.losses(doubled).td) == pytest.approx(2 * float(losses.td), rel=1e-5)


def figures(q_value: list[float], realised: list[float] | None, **changes: object) -> TransitionFigures:
    q = torch.tensor(q_value)
    told = None if realised is None else torch.tensor(realised)
    return replace(TransitionFigures(q.abs(), q, q + 1, told, told, q > 0, None), **changes)  # type: ignore[arg-type]


def test_health_is_read_over_all_batches() -> None:
    health = q_health([figures([1.0, 3.0], [1.0, 1.0]), figures([-1.0], [4.0])])
    assert health.mean_max_q == pytest.approx(2.0)
    assert health.mean_return == pytest.approx(2.0)
    assert health.over_estimation == pytest.approx(1.0)
    assert health.unsupported_argmax == pytest.approx(2 / 3)
    assert health.td_error_50 == pytest.approx(1.0)
    assert [(b.predicted, b.realised, b.count) for b in health.calibration] == [
        (-1.0, 4.0, 1),
        (1.0, 1.0, 1),
        (3.0, 1.0, 1),
    ]
    assert health.calibration_error == pytest.approx((5 + 0 + 2) / 3)


def test_health_says_nothing_of_what_is_missing() -> None:
    plain = q_health([figures([1.0], None, unsupported=None)]).plain()
    assert plain["mean_return"] is None
    assert plain["unsupported_argmax"] is None
    assert plain["calibration"] == []
    assert q_health([]).plain()["td_error_99"] is None
    assert np.isnan(q_health([figures([1.0], [-1.0])]).over_estimation)  # a ratio to a loss says nothing


def test_a_calibrated_q_has_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    predicted = generator.uniform(0, 2, 20_000)
    bins = calibration_bins(predicted, predicted + generator.normal(size=20_000))
    assert len(bins) == 10
    assert max(abs(each.predicted - each.realised) for each in bins) < 0.1
