"""The ranker: a dueling Q over candidates, Q(s, i) = V(s) + ⟨f(s), e_i⟩ + b_i.

Vectors have two parts, e_i = [learnt, memory]: the sequence encoder speaks to the first, the sum over the history of
what goes together (history_memory.py) to the second. Whoever ranks sees one inner product.

Beside Q stand a behaviour head, the logits ⟨g(s), e_i⟩ + β_i of what logged users do next (it says which actions the
log supports), and a return head U(s), the discounted return that logged behaviour earns from s on.
"""

from dataclasses import dataclass, fields

import torch
from torch import nn

from recsys.mdp.state import StateBatch
from recsys.models.history_memory import HistoryMemory
from recsys.models.item_tower import LARGE_CATALOGUE, ItemTower
from recsys.models.own_products import own_products
from recsys.models.quantiles import QuantileOffsets
from recsys.models.responses import ResponseHead
from recsys.models.session_encoder import (
    AttentionEncoder,
    GatedEncoder,
    RecurrentEncoder,
    SessionEncoder,
    TokenProjection,
)
from recsys.types import FloatArray

QUIET = 0.01  # standard deviation of the heads' weights at first
# of a network that starts from content: its item vectors then have a norm near 2, and ids hardly a part in it
LOUD_CONTENT, QUIET_IDS = 3.0, 0.1  # over the default
LOUD_ANSWERS = 0.5  # standard deviation of an event type's features


@dataclass(frozen=True)
class NetworkShape:
    """Everything that decides a network's parameters; kept in the bundle."""

    items: int
    content_features: int
    item_features: int  # of the learnt part of e_i
    hidden: int
    layers: int
    encoder: str
    event_types: int
    attribute_sizes: tuple[int, ...]
    max_events: int
    dropout: float
    id_dropout: float
    dueling: bool = True
    quantiles: int = 1  # of the return; what is served is their mean
    memory_features: int = 0  # of the memory part of e_i; 0 = none
    behavior: bool = True  # a head for what the log does next; a student, which learns from Q, needs none
    responses: bool = False  # a head for how a shown item is answered, which only training asks

    @property
    def vector_features(self) -> int:
        """Width of e_i, both parts."""
        return self.item_features + self.memory_features


@dataclass(frozen=True)
class StateVectors:
    """What the state says; all but `value` and `behavior_return` are inner-product queries over item vectors."""

    advantage: torch.Tensor  # f(s), (batch, time + 1, feature)
    value: torch.Tensor  # V(s), (batch, time + 1)
    behavior: torch.Tensor  # g(s), (batch, time + 1, feature); no feature without the head
    behavior_return: torch.Tensor  # U(s), (batch, time + 1)


@dataclass(frozen=True)
class HiddenStates(StateVectors):
    """States with the hidden vectors, which quantiles and responses are read off."""

    hidden: torch.Tensor  # (batch, time + 1, hidden)


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
        elif shape.encoder == "gated":
            self.encoder = GatedEncoder(shape.hidden)
        else:
            self.encoder = RecurrentEncoder(shape.hidden, shape.layers, shape.dropout)
        self.dropout = nn.Dropout(shape.dropout)
        self.learnt = shape.item_features
        self.memory = (
            HistoryMemory(shape.memory_features, shape.event_types, behavior=shape.behavior)
            if shape.memory_features
            else None
        )
        self.advantage = nn.Linear(shape.hidden, shape.item_features)
        self.behavior = nn.Linear(shape.hidden, shape.item_features) if shape.behavior else None
        for head in (self.advantage, self.behavior):  # what is known of items speaks first, without noise
            if head is not None:
                nn.init.normal_(head.weight, std=QUIET)
                nn.init.zeros_(head.bias)
        self.scalars = nn.Linear(shape.hidden, 2)
        self.dueling = shape.dueling
        self.offsets = (
            QuantileOffsets(shape.hidden, shape.vector_features, shape.quantiles)
            if shape.quantiles > 1
            else None
        )
        self.responses = (
            ResponseHead(shape.hidden, shape.item_features, shape.event_types) if shape.responses else None
        )

    def forward(self, batch: StateBatch, item_vectors: torch.Tensor) -> StateVectors:
        """Return the states around the tokens; `item_vectors` has shape (batch, time, feature)."""
        hidden = self.dropout(self.encoder(*self.tokens(batch, item_vectors[..., : self.learnt])))
        scalars = self.scalars(hidden)
        value = scalars[..., 0] if self.dueling else torch.zeros_like(scalars[..., 0])
        advantage = self.advantage(hidden)
        behavior = advantage[..., :0] if self.behavior is None else self.behavior(hidden)
        if self.memory is not None:
            asked, asked_of_behavior = self.memory.read(self.memory(batch, item_vectors[..., self.learnt :]))
            advantage = torch.cat([advantage, asked], dim=-1)
            behavior = torch.cat([behavior, asked_of_behavior], dim=-1)
        heads = advantage, value, behavior, scalars[..., 1]
        plain = self.offsets is None and self.responses is None
        return StateVectors(*heads) if plain else HiddenStates(*heads, hidden)


class QNetwork(nn.Module):
    """Item tower and state network: the teacher."""

    def __init__(self, shape: NetworkShape, temperature: float) -> None:
        super().__init__()
        self.shape = shape
        self.temperature = temperature
        self.tower = ItemTower(
            shape.items,
            shape.content_features,
            shape.item_features,
            shape.id_dropout,
            memory_features=shape.memory_features,
        )
        self.states = StateNetwork(shape)
        self.behavior_bias = nn.Embedding(shape.items, 1, sparse=shape.items >= LARGE_CATALOGUE)
        nn.init.zeros_(self.behavior_bias.weight)

    @torch.no_grad()
    def start_from_content(self, content: FloatArray) -> None:
        """Let values be learnt from what items are, (item, feature), and from how they were answered.

        An item that is shown rarely is then at first what its content says, and content and answers are loud enough
        for the encoder to tell kinds apart; biases stay 0, which is near most values where popularity is not.
        """
        tower = self.tower
        tower.content.copy_(torch.from_numpy(content))
        tower.id_embedding.weight.mul_(QUIET_IDS)
        tower.content_map.weight.mul_(LOUD_CONTENT)
        tower.content_map.bias.zero_()
        self.states.tokens.event_type.weight.normal_(std=LOUD_ANSWERS)

    def state_vectors(self, batch: StateBatch) -> StateVectors:
        """Return the states around each token of the batch."""
        states: StateVectors = self.states(batch, self.tower(batch.item.clamp(min=0)))
        return states

    def item_side(self, item: torch.Tensor) -> "ItemSide":
        """Return what Q and the behaviour head need of some items."""
        vectors = self.tower(item)
        # e_i is shared by both heads; Q is in units of reward, logits are Q / temperature
        return ItemSide(vectors, self.tower.biases(item) * self.temperature, self.behavior_bias(item)[..., 0])

    def quantile_offsets(self, states: StateVectors, item: torch.Tensor, side: "ItemSide") -> torch.Tensor:
        """Return δ_n(s, i), (state, quantile), of one item per state."""
        if self.states.offsets is None or not isinstance(states, HiddenStates):
            raise RuntimeError("a network of one quantile has no offsets; build it with more quantiles")
        return torch.as_tensor(self.states.offsets(states.hidden, side.vectors))

    def response_logits(self, states: StateVectors, item: torch.Tensor) -> torch.Tensor:
        """Return the logits of each state's item being answered by each event type, (state, event type)."""
        if self.states.responses is None or not isinstance(states, HiddenStates):
            raise RuntimeError("a network without a response head says nothing of answers; build it with one")
        return torch.as_tensor(self.states.responses(states.hidden, self.tower(item)))


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


def q_of_own(state: StateVectors, items: ItemSide, place: torch.Tensor) -> torch.Tensor:
    """Return Q(s, i) of every state with its own candidates, (state, candidate): places among the items."""
    return state.value[:, None] + own_products(state.advantage, items.vectors, place) + items.bias[place]


def behavior_of_own(state: StateVectors, items: ItemSide, place: torch.Tensor) -> torch.Tensor:
    """Return the behaviour head's logits of every state with its own candidates, (state, candidate)."""
    return own_products(state.behavior, items.vectors, place) + items.behavior_bias[place]


def without_memory(advantage: torch.Tensor, learnt: int) -> torch.Tensor:
    """Return queries f(s), (..., feature), that leave the memory part of e_i, all beyond `learnt`, unasked."""
    silent = advantage.clone()
    silent[..., learnt:] = 0.0
    return silent


def states_at(states: StateVectors, row: torch.Tensor, column: torch.Tensor) -> StateVectors:
    """Return the states at some places of a batch of sequences; first axis state."""
    return type(states)(**{part.name: getattr(states, part.name)[row, column] for part in fields(states)})
