"""The loss of the sequence models: cross-entropy of what a user does next, and nothing else.

The target of state t is the item of an event drawn from the next `horizon` ones: 1 is next-item training; more of them
teach what follows at all (Pancha et al. 2022), which is what a ranking of everything that a user does later asks for. A
target that is not rewarded, or was taken before t, teaches nothing.
"""

import numpy as np
import torch

from recsys.learning.losses import NegativeSampler, mean, sampled_cross_entropy
from recsys.mdp.state import StateBatch
from recsys.policies.sequence_network import SequenceNetwork
from recsys.types import BoolArray, LongArray


def sequence_loss(
    network: SequenceNetwork,
    batch: StateBatch,
    sampler: NegativeSampler,
    negatives: int,
    horizon: int,
    generator: torch.Generator,
    chance: np.random.Generator,
) -> torch.Tensor:
    """Return the sampled cross-entropy of one target per state, log-Q corrected, mean over states."""
    row, time, target = draw_targets(batch, horizon, chance)
    query = network.queries(batch)[torch.from_numpy(row), torch.from_numpy(time)]  # (state, feature)
    item = torch.from_numpy(target)
    negative = sampler.draw(negatives, generator)
    positive_logit = (query * network.tower(item)).sum(-1) + network.tower.biases(item)
    negative_logit = query @ network.tower(negative).T + network.tower.biases(negative)
    return mean(
        sampled_cross_entropy(positive_logit, item, negative_logit, negative, sampler.log_probability)
    )


def draw_targets(
    batch: StateBatch, horizon: int, chance: np.random.Generator
) -> tuple[LongArray, LongArray, LongArray]:
    """Return (row, time, item) of the states that have a target, each (state,)."""
    item = batch.item.numpy()
    reward = batch.reward.numpy()
    row, time = np.nonzero(item >= 0)
    left = batch.lengths.numpy()[row] - time
    ahead = time + (chance.random(len(time)) * np.minimum(left, horizon)).astype(np.int64)
    target = item[row, ahead]
    kept: BoolArray = (reward[row, ahead] > 0) & (first_places(item)[row, ahead] >= time)
    return row[kept].astype(np.int64), time[kept].astype(np.int64), target[kept].astype(np.int64)


def first_places(item: LongArray) -> LongArray:
    """Return where in its row each token's item occurs first, (batch, time)."""
    rows, columns = item.shape
    key = np.arange(rows)[:, None] * (int(item.max(initial=0)) + 2) + item + 1
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    places: LongArray = (first[inverse].reshape(item.shape) % columns).astype(np.int64)
    return places
