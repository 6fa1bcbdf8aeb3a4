"""An epoch over a log: a batch is a step at its own rate, and the target network follows by its schedule."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.epoch_batches import EpochBatch
from recsys.learning.log_training import LogTraining
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import optimizer_for
from recsys.learning.target_network import frozen_copy
from recsys.logs.prepared import PreparedLog
from recsys.mdp.windows import batches, cut_windows
from recsys.models.q_network import QNetwork
from recsys.models.vector_network import VectorNetwork, VectorShape
from tests.factories import tiny_shape
from tests.memory_log import memory_log, taken

LOG = memory_log([taken(*range(place % 7 + 2)) for place in range(9)])


def made(log: PreparedLog = LOG, **changes: object) -> LogTraining:
    torch.manual_seed(0)
    shape = replace(tiny_shape(len(log.content)), content_features=log.content.shape[1], attribute_sizes=(2,))
    config = PretrainConfig.model_validate({"bootstrap_candidates": 4, "negatives": 8, **changes})
    network = QNetwork(shape, temperature=0.1)
    sampler = NegativeSampler.from_popularity(np.ones(shape.items, np.float32))
    learner = DQNLearner(
        network, frozen_copy(network), sampler, config, None, torch.Generator().manual_seed(0)
    )
    learner.refresh_index()
    return LogTraining(log, learner, optimizer_for(network, 0.01, 0.0))


def three(log: PreparedLog = LOG, fold: int | None = None) -> list[EpochBatch]:
    chance = np.random.default_rng(0)
    windows = cut_windows(log, np.arange(9), 50, 2, chance)
    return [EpochBatch(rows, fold, None) for rows in batches(windows, 3, chance)]


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_a_batch_moves_the_network_by_its_own_rate() -> None:
    training = made()
    epoch = training.epoch(three(), np.random.default_rng(1), [1.0, 0.0, 0.5])
    seen = [weights(training.network), *(weights(training.network) for _ in epoch)]
    moved = [float((after - before).abs().max()) for before, after in pairwise(seen)]
    assert moved[0] == pytest.approx(
        0.01, rel=1e-3
    )  # the first step of Adam is the rate, whatever the gradient
    assert moved[1] == 0.0
    assert 0.0 < moved[2] < 0.01
    assert training.updates == 3


def test_the_target_network_moves_at_the_updates_of_its_schedule_over_epochs() -> None:
    training = made(target_tau=1.0, target_interval=4)
    first = weights(training.target)
    for _ in training.epoch(three(), np.random.default_rng(1), [1.0] * 3):
        assert torch.equal(weights(training.target), first)
    epoch = training.epoch(three(), np.random.default_rng(2), [1.0] * 3)
    follows = [torch.equal(weights(training.target), weights(training.network)) for _ in epoch]
    assert follows == [True, False, False]


def test_what_is_yielded_is_the_batch_with_its_losses_and_its_fold_is_let_go_of_at_the_end() -> None:
    training, given = made(), three(fold=1)
    for place, (batch, losses) in enumerate(training.epoch(given, np.random.default_rng(1), [0.0] * 3)):
        assert batch is given[place]
        assert losses.figures is not None
        assert training.network.tower.held_out_fold == training.target.tower.held_out_fold == 1
    assert training.network.tower.held_out_fold is None
    assert training.target.tower.held_out_fold is None


def test_a_warm_up_bootstraps_nothing_and_asks_for_no_new_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    training, asked = made(), []
    monkeypatch.setattr(training.learner, "refresh_index", lambda: asked.append(training.updates))
    for _, losses in training.epoch(three(), np.random.default_rng(1), [1.0] * 3, warmup=True):
        assert losses.figures is None
        assert float(losses.td) == 0.0
    assert asked == []
    for _ in training.epoch(three(), np.random.default_rng(1), [1.0] * 3):
        pass
    assert asked == [3]


def test_dropout_is_on_while_learning() -> None:
    training = made()
    training.network.eval()
    for _ in training.epoch(three(), np.random.default_rng(1), [1.0] * 3):
        assert training.network.training
        assert not training.target.training


def test_a_network_without_histories_is_refused() -> None:
    network = VectorNetwork(VectorShape(3, 2, (4,)))
    learner = DQNLearner(
        network,
        frozen_copy(network),
        None,
        PretrainConfig(),
        None,
        torch.Generator().manual_seed(0),
    )
    with pytest.raises(TypeError, match="need a QNetwork"):
        LogTraining(LOG, learner, optimizer_for(network, 0.01, 0.0))


def test_what_the_optimizer_does_not_move_gathers_no_gradient() -> None:
    training = made()
    left_out = training.network.tower.bias.weight
    for group in training.optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p is not left_out]
    training.network.requires_grad_(True)  # as whoever freezes parts does between epochs
    for _ in training.epoch(three(), np.random.default_rng(1), [1.0] * 3):
        assert left_out.grad is None
        assert training.network.states.advantage.weight.grad is not None
