"""The network of the sequence models and its loss: cross-entropy of what a user does next, and nothing else.

Logits are ⟨g(s_t), e_i⟩ + b_i. The target of state t is the item of an event drawn from the next `horizon` ones: 1 is
next-item training; more of them teach what follows at all (Pancha et al. 2022), which is what a ranking of everything
that a user does later asks for. A target that is not rewarded, or was taken before t, teaches nothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from recsys.learning.losses import NegativeSampler, mean, sampled_cross_entropy
from recsys.mdp.state import StateBatch
from recsys.models.item_tower import ItemTower
from recsys.models.session_encoder import AttentionEncoder, RecurrentEncoder, SessionEncoder, TokenProjection
from recsys.types import BoolArray, LongArray


@dataclass(frozen=True)
class SequenceShape:
    """What the log decides of the network."""

    items: int
    content_features: int
    event_types: int
    attribute_sizes: tuple[int, ...]


class SequenceNetwork(nn.Module):
    """Item tower, token projection, encoder and one linear query."""

    def __init__(
        self,
        shape: SequenceShape,
        encoder: Literal["recurrent", "attention"],
        features: int,
        hidden: int,
        layers: int,
        dropout: float,
        id_dropout: float,
        max_events: int,
    ) -> None:
        super().__init__()
        self.tower = ItemTower(shape.items, shape.content_features, features, id_dropout)
        self.tokens = TokenProjection(features, shape.event_types, shape.attribute_sizes, hidden, dropout)
        self.encoder: SessionEncoder
        if encoder == "attention":
            self.encoder = AttentionEncoder(hidden, layers, dropout, max_events)
        else:
            self.encoder = RecurrentEncoder(hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.query = nn.Linear(hidden, features)

    def queries(self, batch: StateBatch) -> torch.Tensor:
        """Return g(s) of the state before each token and after the last, (batch, time + 1, feature)."""
        start, tokens = self.tokens(batch, self.tower(batch.item.clamp(min=0)))
        return torch.as_tensor(self.query(self.dropout(self.encoder(start, tokens))))


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
