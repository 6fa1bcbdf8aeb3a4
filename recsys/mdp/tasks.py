"""A task is a user to adapt to: the support set is what they did first, the query set what follows."""

import numpy as np
import torch

from recsys.logs.prepared import PreparedLog, Role
from recsys.mdp.replay_buffer import first_seen
from recsys.mdp.state import StateBatch
from recsys.randomness import numpy_generator
from recsys.types import LongArray


def draw_shots(lengths: torch.Tensor, max_support: int, generator: np.random.Generator) -> torch.Tensor:
    """Draw the number of support events log-uniformly from 1 to max_support, leaving at least one event to query."""
    uniform = torch.from_numpy(generator.random(len(lengths)))
    shots = torch.exp(uniform * np.log(max_support + 1)).long().clamp(1, max_support)
    return torch.minimum(shots, lengths - 1).clamp(min=0)


def query_mask(batch: StateBatch, shots: torch.Tensor, query_size: int) -> torch.Tensor:
    """Mark the first `query_size` new, positively rewarded items after the support; (batch, time)."""
    step = torch.arange(batch.item.shape[1])[None, :]
    wanted = torch.from_numpy(first_seen(batch)) & (batch.reward > 0) & (step >= shots[:, None])
    return wanted & (wanted.cumsum(dim=1) <= query_size)


def old_and_new_tasks(log: PreparedLog, new_share: float, seed: int) -> tuple[LongArray, LongArray]:
    """Split the training histories into (old, new) tasks; pretraining reads only old ones."""
    histories = log.with_role(Role.TRAIN)
    histories = histories[log.history_train_end[histories] > 0]
    order = numpy_generator(seed, "new-tasks").permutation(len(histories))
    new = int(round(new_share * len(histories)))
    return np.sort(histories[order[new:]]), np.sort(histories[order[:new]])
