"""The inner loop by gradient: a few steps on a small head instead of a solve; the control and the offline upper bound.

The head says h(θ, φ) of an item with features φ; from meta-learned θ_0 it takes S steps of steepest descent with a
learnt rate per group of parameters (Li et al. 2017, Meta-SGD, eq. 3, one rate per tensor),

    θ ← θ − α ⊙ ∇ [ Σ_t (ρ^age / σ²) (r_t − h(θ, φ_t))² / 2 + |θ − θ_0|² / 2 ],

with evidence r_t, noise and forgetting of the closed-form loop, so that both read the same events. The penalty is what
a prior N(θ_0, I) says: with a linear head, many steps end at the closed form. Three heads differ in what moves:

    head      h = wᵀφ, w moves (ANIL, Raghu et al. 2020)
    context   h = MLP([φ, c]) with c from 0, only c moves (CAVIA, Zintgraf et al. 2019, eq. 3)
    full      h = wᵀφ + MLP(φ), everything moves (MAML, Finn et al. 2017, eq. 1)

Users are adapted at once by vmap over the gradient. Serving uses the closed form: this costs many times as much.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn
from torch.func import grad, vmap

from recsys.adaptation import AdaptationPrior, SupportSet
from recsys.errors import UserError

HeadKind = Literal["head", "context", "full"]
Parameters = dict[str, torch.Tensor]


@dataclass(frozen=True)
class GradientWeights:
    """A head for each user; first axis of every tensor of `moved` is the user."""

    loop: "GradientLoop"
    moved: Parameters

    def shift(self, features: torch.Tensor) -> torch.Tensor:
        """Return h(θ_u, φ(i)), (batch, item), from (item, feature)."""
        return torch.as_tensor(vmap(self.loop.say, in_dims=(0, None))(self.moved, features))

    def shift_of(self, row: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return h(θ_row, φ), (pair,), of pairs of a user's row and an item's features, (pair, feature)."""
        picked = {name: value[row] for name, value in self.moved.items()}
        return torch.as_tensor(vmap(self.loop.say)(picked, features))


class GradientLoop(nn.Module):
    """What AdaptationPrior is, by gradient: support set -> fast weights, with the same evidence."""

    def __init__(
        self,
        evidence: AdaptationPrior,
        kind: HeadKind,
        steps: int,
        hidden: int = 32,
        context: int = 16,
        second_order: bool = True,
    ) -> None:
        super().__init__()
        if kind not in get_args(HeadKind):
            raise UserError(f"kind is {kind!r}, must be one of {', '.join(get_args(HeadKind))}; choose one")
        if steps < 1:
            raise UserError(f"steps is {steps}, must be at least 1; raise it")
        self.told = evidence
        self.kind = kind
        self.steps = steps
        self.second_order = second_order
        features = len(evidence.mean)
        start: Parameters = {} if kind == "context" else {"linear": torch.zeros(features)}
        if kind == "context":
            start["context"] = torch.zeros(context)
            self.read = nn.Linear(features + context, hidden)
            self.write = nn.Linear(hidden, 1, bias=False)
            nn.init.normal_(self.write.weight, std=0.01)
        elif kind == "full":
            start["read"] = torch.randn(hidden, features) / features**0.5
            start["bias"] = torch.zeros(hidden)
            start["write"] = torch.zeros(hidden)
        self.start_at = nn.ParameterDict(
            {name: nn.Parameter(value, requires_grad=name != "context") for name, value in start.items()}
        )
        self.log_rate = nn.ParameterDict({name: nn.Parameter(torch.tensor(-3.0)) for name in start})

    @property
    def n_step(self) -> torch.Tensor:
        """Return how many rewards an event's evidence counts."""
        return self.told.n_step

    def say(self, moved: Parameters, features: torch.Tensor) -> torch.Tensor:
        """Return h of one user's head for items of any shape, (...), from (..., feature)."""
        if self.kind == "context":
            context = moved["context"].expand(*features.shape[:-1], -1)
            hidden = torch.relu(self.read(torch.cat([features, context], dim=-1)))
            return torch.as_tensor(self.write(hidden)[..., 0])
        said = features @ moved["linear"]
        if self.kind == "full":
            hidden = torch.relu(features @ moved["read"].T + moved["bias"])
            said = said + hidden @ moved["write"]
        return said

    def before_support(self, attributes: torch.Tensor) -> GradientWeights:
        """Return the heads of users before any event, from (batch, attribute)."""
        users = len(attributes)
        return GradientWeights(self, {name: v.expand(users, *v.shape) for name, v in self.start_at.items()})

    def adapt(self, features: torch.Tensor, support: SupportSet) -> GradientWeights:
        """Return the heads after S steps, from the features of the support's items, (batch, support, feature)."""
        start = dict(self.start_at.items())
        weight = support.present / self.told.noise(support.present)

        def loss(
            moved: Parameters, phi: torch.Tensor, said: torch.Tensor, weight: torch.Tensor
        ) -> torch.Tensor:
            misfit = ((said - self.say(moved, phi)).square() * weight).sum()
            distance = sum((moved[name] - start[name]).square().sum() for name in moved)
            return torch.as_tensor(misfit + distance) / 2.0

        slope = vmap(grad(loss))
        said = self.told.evidence(support)
        moved = self.before_support(support.attributes).moved
        rate = {name: torch.exp(value) for name, value in self.log_rate.items()}
        for _ in range(self.steps):
            towards = slope(moved, features, said, weight)
            if not self.second_order:
                towards = {name: value.detach() for name, value in towards.items()}
            moved = {name: value - rate[name] * towards[name] for name, value in moved.items()}
        return GradientWeights(self, moved)
