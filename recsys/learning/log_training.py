"""Q-learning over a log, batch after batch: read windows, take a step, let the target network follow.

Pretraining, fine-tuning and fitted Q evaluation share it. Which windows an epoch holds, when it is validated and what
is kept of it are theirs.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from recsys.learning.dqn import DQNLearner
from recsys.learning.epoch_batches import EpochBatch
from recsys.learning.optimizer import step
from recsys.learning.parallel import ALONE, Group
from recsys.learning.step_losses import StepLosses
from recsys.learning.target_network import TargetSchedule
from recsys.logs.prepared import PreparedLog
from recsys.mdp.windows import read_windows
from recsys.models.q_network import QNetwork


class LogTraining:
    """What updates move: the learner's network, its optimizer's moments, and the target network behind them."""

    def __init__(
        self, log: PreparedLog, learner: DQNLearner, optimizer: torch.optim.Optimizer, group: Group = ALONE
    ) -> None:
        network, target = learner.network, learner.target
        if not isinstance(network, QNetwork) or not isinstance(target, QNetwork):
            raise TypeError("windows of histories need a QNetwork")
        self.log, self.learner, self.optimizer, self.group = log, learner, optimizer, group
        self.network, self.target = network, target
        self.schedule = TargetSchedule.of(learner.config)
        self._let_go_of_what_stays()  # before a group asks which gradients it is to average
        self.losses_of = group.losses_of(learner)
        self.updates = 0  # taken so far; the target network moves by it

    def epoch(
        self,
        batches: Iterable[EpochBatch],
        reading: np.random.Generator,
        rate_factors: Iterable[float],
        *,
        warmup: bool = False,
    ) -> Iterator[tuple[EpochBatch, StepLosses]]:
        """Learn from each batch and yield it, this process's share of it, with its losses.

        Each batch has a factor of its step's learning rate. While warming up nothing is bootstrapped, and candidates
        stay as they were.
        """
        network, target = self.network, self.target
        if not warmup:
            self.learner.refresh_index()
        self._let_go_of_what_stays()  # whoever froze parts since has let everything else learn
        network.train()
        for whole, rate_factor in zip(batches, rate_factors, strict=False):
            batch = self.group.share(whole)
            if batch is None:
                continue
            network.tower.held_out_fold = target.tower.held_out_fold = batch.fold
            states = read_windows(self.log, batch.windows, reading, whole_histories=True)
            losses = self.losses_of(states, warmup=warmup, weight=batch.weight)
            step(self.optimizer, losses.total, rate_factor, self.learner.config.max_gradient_norm)
            self.updates += 1
            self.schedule.follow(target, network, self.updates)
            yield batch, losses
        network.tower.held_out_fold = target.tower.held_out_fold = None

    def _let_go_of_what_stays(self) -> None:
        """Ask for no gradient of what the optimizer does not move: nobody would take it away, and it would grow."""
        moved = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for parameter in self.network.parameters():
            if id(parameter) not in moved:
                parameter.requires_grad_(False)
