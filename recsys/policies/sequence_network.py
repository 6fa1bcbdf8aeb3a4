"""The network of the sequence models: logits ⟨g(s_t), e_i⟩ + b_i."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from recsys.mdp.state import StateBatch
from recsys.models.item_tower import ItemTower
from recsys.models.session_encoder import AttentionEncoder, RecurrentEncoder, SessionEncoder, TokenProjection


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
