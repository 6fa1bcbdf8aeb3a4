"""Tokens -> hidden states, one more than tokens: state 0 has seen only the user's attributes.

Encoders behind one protocol. All are causal: state t depends on the first t tokens alone, so one pass over a
history gives the state before every one of its events.
"""

from typing import Protocol

import torch
from torch import nn

from recsys.mdp.state import StateBatch


class SessionEncoder(Protocol):
    """Maps token vectors to the states around them."""

    def __call__(self, start: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, hidden), (batch, time, hidden) -> (batch, time + 1, hidden)."""
        ...


class RecurrentEncoder(nn.Module):
    """A GRU (Hidasi et al. 2016, GRU4Rec)."""

    def __init__(self, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, start: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Run over the start vector and the tokens."""
        states, _ = self.gru(torch.cat([start[:, None], tokens], dim=1))
        return torch.as_tensor(states)


class GatedEncoder(nn.Module):
    """h_t = (1 − z_t) h_{t−1} + z_t c_t with z_t = σ(W_z x_t), c_t = tanh(W_c x_t) (minGRU, Feng et al. 2024, without
    its parallel scan).

    A GRU whose gates read the token alone: what is left of the recurrence is one mix of two vectors a token, which is
    what makes it cheap for one user (recsys/models/request_state.py).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(hidden, 2 * hidden)  # z, c

    def forward(self, start: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Run over the start vector and the tokens."""
        gate, candidate = self.gates(torch.cat([start[:, None], tokens], dim=1)).chunk(2, dim=-1)
        gate, candidate = torch.sigmoid(gate), torch.tanh(candidate)
        state = torch.zeros_like(start)
        states = []
        for z, c in zip(gate.unbind(1), candidate.unbind(1), strict=True):
            state = torch.lerp(state, c, z)
            states.append(state)
        return torch.stack(states, dim=1)


class AttentionEncoder(nn.Module):
    """Causal self-attention with learned positions (Kang & McAuley 2018, SASRec)."""

    def __init__(self, hidden: int, layers: int, dropout: float, max_events: int) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(hidden, 2, 2 * hidden, dropout, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.position = nn.Parameter(torch.randn(max_events + 1, hidden) * 0.02)

    def forward(self, start: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Attend from each place to the start vector and the tokens before it."""
        sequence = torch.cat([start[:, None], tokens], dim=1)
        length = sequence.shape[1]
        future = torch.triu(torch.ones(length, length, dtype=torch.bool, device=sequence.device), diagonal=1)
        return torch.as_tensor(self.blocks(sequence + self.position[:length], mask=future, is_causal=True))


class TokenProjection(nn.Module):
    """(item vector, event type, reward, time gap, session start) -> token vector; attributes -> start vector."""

    def __init__(
        self,
        item_features: int,
        event_types: int,
        attribute_sizes: tuple[int, ...],
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.event_type = nn.Embedding(event_types, item_features)
        nn.init.zeros_(self.event_type.weight)
        self.project = nn.Linear(item_features + 3, hidden)
        self.start = nn.Parameter(torch.randn(hidden) * 0.1)
        tables = [nn.Embedding(size + 1, hidden) for size in attribute_sizes]
        for table in tables:
            nn.init.zeros_(table.weight)
        self.attributes = nn.ModuleList(tables)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: StateBatch, item_vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (start, tokens) from a batch and the vectors of its items, (batch, time, feature)."""
        vectors = (item_vectors + self.event_type(batch.event_type)) * batch.present[..., None]
        numbers = torch.stack([batch.reward, batch.log_gap, batch.new_session], dim=-1)
        tokens = self.project(self.dropout(torch.cat([vectors, numbers], dim=-1)))
        start = self.start.expand(len(batch.item), -1)
        for column, table in enumerate(self.attributes):
            start = start + table(batch.attributes[:, column])
        return start, tokens
