"""Training by several processes together: what one of them learns from, and how their gradients become one.

Every process holds the same network and goes through the same batches; of each it learns from every n-th window.
Gradients are averaged by DistributedDataParallel while they are computed, those of sparse tables too, so every process
takes the same step. One process alone is the special case in which nothing of this happens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from recsys.learning.dqn import DQNLearner
from recsys.learning.epoch_batches import EpochBatch
from recsys.learning.step_losses import StepLosses
from recsys.mdp.state import StateBatch
from recsys.randomness import derive_seed, numpy_generator


class LossesOf(Protocol):
    """Returns the losses of a batch."""

    def __call__(
        self, batch: StateBatch, *, warmup: bool = False, weight: torch.Tensor | None = None
    ) -> StepLosses:
        """Return them; `total` can be sent backward."""
        ...


@dataclass(frozen=True)
class Group:
    """One process's place among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one validates, decides and writes."""
        return self.rank == 0

    def losses_of(self, learner: DQNLearner) -> LossesOf:
        """Return the learner's losses, their gradients averaged over the group when they are sent backward."""
        if self.size == 1:
            return learner.losses
        # which heads a batch reads differs (warm-up, folds), so what it leaves out is found at each step
        together = DistributedDataParallel(
            _Losses(learner), forward_sync_buffers=False, find_unused_parameters=True
        )

        def losses(
            batch: StateBatch, *, warmup: bool = False, weight: torch.Tensor | None = None
        ) -> StepLosses:
            found: StepLosses = together(batch, warmup, weight)
            return found

        return losses

    def share(self, batch: EpochBatch) -> EpochBatch | None:
        """Return this process's windows of a batch; None, for all of them, where a batch has fewer than processes."""
        if self.size == 1:
            return batch
        if len(batch.windows) < self.size:
            return None
        mine = np.arange(self.rank, len(batch.windows), self.size)
        weight = None if batch.weight is None else batch.weight[torch.from_numpy(mine)]
        return replace(batch, windows=batch.windows.take(mine), weight=weight)

    def chance(
        self, seed: int, epoch: int, chance: torch.Generator, reading: np.random.Generator
    ) -> np.random.Generator:
        """Make what this process draws in an epoch its own, a function of the epoch; return what reading draws from."""
        if self.size == 1:
            return reading
        name = f"pretrain/{self.rank}/{epoch}"
        chance.manual_seed(derive_seed(seed, name))
        torch.manual_seed(derive_seed(seed, f"{name}/dropout"))
        return numpy_generator(seed, f"{name}/reading")

    def agree(self, value: Callable[[], float]) -> float:
        """Return what the leading process finds; the others wait for it."""
        if self.size == 1:
            return value()
        found = torch.tensor([value() if self.leads else 0.0], dtype=torch.float64)
        distributed.broadcast(found, 0)
        return float(found)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Group()


class _Losses(nn.Module):
    """The learner as the module that DistributedDataParallel asks for: its parameters are the online network's."""

    def __init__(self, learner: DQNLearner) -> None:
        super().__init__()
        self.network = learner.network
        self._losses = learner.losses

    def forward(self, batch: StateBatch, warmup: bool, weight: torch.Tensor | None) -> StepLosses:
        """Return the losses of a batch."""
        return self._losses(batch, warmup=warmup, weight=weight)
