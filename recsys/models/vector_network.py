"""Q over a small fixed action set from a state that is a feature vector: the heads of the ranker behind an MLP.

Q(s, a) = V(s) + ⟨f(s), e_a⟩ + b_a with a table of actions in place of the item tower. Without dueling and with f(s)
the last hidden layer itself this is exactly a dense DQN head, at its cost.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from recsys.models.q_network import HiddenStates, ItemSide, StateVectors
from recsys.models.quantiles import DenseQuantileOffsets


@dataclass(frozen=True)
class VectorShape:
    """Everything that decides a vector network's parameters."""

    features: int  # of a state
    actions: int
    hidden: tuple[int, ...] = (256, 256)  # none = the state itself, which is a table where states are one-hot
    action_features: int | None = None  # width of e_a; none = f(s) is the last hidden layer
    dueling: bool = False
    behavior: bool = False  # a head for what the log does; without it everything counts as supported
    return_head: bool = False
    quantiles: int = 1


class VectorNetwork(nn.Module):
    """MLP encoder, the ranker's heads, an action table."""

    def __init__(self, shape: VectorShape, temperature: float = 1.0) -> None:
        super().__init__()
        self.shape = shape
        self.temperature = temperature  # of Q as a logit
        widths = (shape.features, *shape.hidden)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
        self.encoder = nn.Sequential(*layers)
        last = widths[-1]
        self.advantage = None if shape.action_features is None else nn.Linear(last, shape.action_features)
        self.actions = nn.Linear(shape.action_features or last, shape.actions)  # rows e_a, biases b_a
        self.value = nn.Linear(last, 1) if shape.dueling else None
        self.behavior = nn.Linear(last, shape.actions) if shape.behavior else None
        self.returns = nn.Linear(last, 1) if shape.return_head else None
        self.offsets = (
            DenseQuantileOffsets(last, shape.actions, shape.quantiles) if shape.quantiles > 1 else None
        )

    def forward(self, state: torch.Tensor) -> StateVectors:
        """Return what states, (batch, feature), say; heads that the shape leaves out give zeros."""
        hidden = self.encoder(state)
        advantage = hidden if self.advantage is None else self.advantage(hidden)
        none = hidden.new_zeros(len(hidden))
        value = none if self.value is None else self.value(hidden)[:, 0]
        returns = none if self.returns is None else self.returns(hidden)[:, 0]
        if self.offsets is None:
            return StateVectors(advantage, value, hidden, returns)
        return HiddenStates(advantage, value, hidden, returns, hidden)

    def item_side(self, item: torch.Tensor) -> ItemSide:
        """Return what Q needs of some actions."""
        none = self.actions.bias.new_zeros(item.shape)
        vectors = nn.functional.embedding(
            item, self.actions.weight
        )  # its gradient is quicker than an index's
        return ItemSide(vectors, self.actions.bias[item], none)

    def q_all(self, states: StateVectors) -> torch.Tensor:
        """Return Q of every action, (batch, action)."""
        q_value = self.actions(states.advantage)
        return torch.as_tensor(q_value if self.value is None else q_value + states.value[:, None])

    def behavior_all(self, states: StateVectors) -> torch.Tensor | None:
        """Return the logit of every action under the log's behaviour, (batch, action), or None without the head."""
        return None if self.behavior is None else torch.as_tensor(self.behavior(states.behavior))

    def quantile_offsets(self, states: StateVectors, item: torch.Tensor, side: ItemSide) -> torch.Tensor:
        """Return δ_n(s, a), (batch, quantile), of one action per state."""
        if self.offsets is None or not isinstance(states, HiddenStates):
            raise RuntimeError("a network of one quantile has no offsets; build it with more quantiles")
        return torch.as_tensor(self.offsets(states.hidden, item))
