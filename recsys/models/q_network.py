"""The ranker: a dueling Q over candidates, Q(s, i) = V(s) + ⟨f(s), e_i⟩ + b_i.

Beside Q stand a behaviour head, the logits ⟨g(s), e_i⟩ + β_i of what logged users do next (it says which actions the
log supports), and a return head U(s), the discounted return that logged behaviour earns from s on.
"""

from dataclasses import dataclass

import torch
from torch import nn

from recsys.mdp.state import StateBatch
from recsys.models.item_tower import ItemTower
from recsys.models.session_encoder import AttentionEncoder, RecurrentEncoder, SessionEncoder, TokenProjection


@dataclass(frozen=True)
class NetworkShape:
    """Everything that decides a network's parameters; kept in the bundle."""

    items: int
    content_features: int
    item_features: int
    hidden: int
    layers: int
    encoder: str
    event_types: int
    attribute_sizes: tuple[int, ...]
    max_events: int
    dropout: float
    id_dropout: float


@dataclass(frozen=True)
class StateVectors:
    """What the state says; all but `value` and `behavior_return` are inner-product queries over item vectors."""

    advantage: torch.Tensor  # f(s), (batch, time + 1, feature)
    value: torch.Tensor  # V(s), (batch, time + 1)
    behavior: torch.Tensor  # g(s), (batch, time + 1, feature)
    behavior_return: torch.Tensor  # U(s), (batch, time + 1)


class StateNetwork(nn.Module):
    """Tokens -> state vectors; knows items only through the vectors it is handed."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.tokens = TokenProjection(
            shape.item_features, shape.event_types, shape.attribute_sizes, shape.hidden, shape.dropout
        )
        self.encoder: SessionEncoder
        if shape.encoder == "attention":
            self.encoder = AttentionEncoder(shape.hidden, shape.layers, shape.dropout, shape.max_events)
        else:
            self.encoder = RecurrentEncoder(shape.hidden, shape.layers, shape.dropout)
        self.dropout = nn.Dropout(shape.dropout)
        self.advantage = nn.Linear(shape.hidden, shape.item_features)
        self.behavior = nn.Linear(shape.hidden, shape.item_features)
        self.scalars = nn.Linear(shape.hidden, 2)

    def forward(self, batch: StateBatch, item_vectors: torch.Tensor) -> StateVectors:
        """Return the states around the tokens; `item_vectors` has shape (batch, time, feature)."""
        hidden = self.dropout(self.encoder(*self.tokens(batch, item_vectors)))
        scalars = self.scalars(hidden)
        return StateVectors(self.advantage(hidden), scalars[..., 0], self.behavior(hidden), scalars[..., 1])


class QNetwork(nn.Module):
    """Item tower and state network: the teacher."""

    def __init__(self, shape: NetworkShape, temperature: float) -> None:
        super().__init__()
        self.shape = shape
        self.temperature = temperature
        self.tower = ItemTower(shape.items, shape.content_features, shape.item_features, shape.id_dropout)
        self.states = StateNetwork(shape)
        self.behavior_bias = nn.Embedding(shape.items, 1)
        nn.init.zeros_(self.behavior_bias.weight)

    def state_vectors(self, batch: StateBatch) -> StateVectors:
        """Return the states around each token of the batch."""
        states: StateVectors = self.states(batch, self.tower(batch.item.clamp(min=0)))
        return states

    def item_side(self, item: torch.Tensor) -> "ItemSide":
        """Return what Q and the behaviour head need of some items."""
        vectors = self.tower(item)
        # e_i is shared by both heads; Q is in units of reward, logits are Q / temperature
        return ItemSide(vectors, self.tower.biases(item) * self.temperature, self.behavior_bias(item)[..., 0])


@dataclass(frozen=True)
class ItemSide:
    """Item vectors e_i with the biases of both heads."""

    vectors: torch.Tensor  # (..., feature)
    bias: torch.Tensor  # (...), in units of Q
    behavior_bias: torch.Tensor  # (...), in logits


def q_of_pairs(state: StateVectors, items: ItemSide) -> torch.Tensor:
    """Return Q(s, i) where states and items have the same leading shape."""
    return state.value + (state.advantage * items.vectors).sum(-1) + items.bias


def q_of_candidates(advantage: torch.Tensor, value: torch.Tensor, items: ItemSide) -> torch.Tensor:
    """Return Q(s, i) of every state with every item of one shared list; (..., candidate)."""
    return value[..., None] + advantage @ items.vectors.T + items.bias
