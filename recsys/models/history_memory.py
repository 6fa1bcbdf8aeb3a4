"""What a history says of items that go together: a kernel read out by the state, as one more inner product.

    m(s_t) = n_t^{-ν} Σ_{j ≤ t} a_tj μ_j,    a_tj = (1 + w_type + w_r r_j) · exp(−λ (t − j) − κ months + σ same session)

with μ_j the memory vector of the item of event j and n_t = Σ_j a_tj. Q and the behaviour head read it as
⟨D m(s), μ_i⟩ with a diagonal D of their own: item-kNN with a learnt spectrum, learnt forgetting and learnt trust in
long histories, to which the sequence encoder adds what order says. Source of ν: factored item similarity models
(Kabbur et al. 2013, FISM, eq. 3).
"""

import math

import torch
from torch import nn
from torch.nn.functional import softplus

from recsys.mdp.state import StateBatch

HOURS_PER_MONTH = 720.0
SLOW_DECAY = -4.0  # softplus⁻¹: forgetting starts at two percent an event and a month


class HistoryMemory(nn.Module):
    """Sums the memory vectors of a history, weighed by what happened when."""

    def __init__(self, features: int, event_types: int) -> None:
        super().__init__()
        self.by_type = nn.Parameter(torch.zeros(event_types))
        self.by_reward = nn.Parameter(torch.zeros(()))
        self.by_age = nn.Parameter(torch.tensor(SLOW_DECAY))
        self.by_time = nn.Parameter(torch.tensor(SLOW_DECAY))
        self.same_session = nn.Parameter(torch.zeros(()))
        self.length_power = nn.Parameter(torch.tensor(0.5))
        self.log_readout = nn.Parameter(torch.zeros(features))
        self.log_behavior_readout = nn.Parameter(torch.zeros(features))

    @torch.no_grad()
    def start_from(self, scale: float, temperature: float) -> None:
        """Start both readouts from a scale in logits; Q is in units of reward, logits times temperature."""
        self.log_readout.fill_(math.log(scale * temperature))
        self.log_behavior_readout.fill_(math.log(scale))

    def forward(self, batch: StateBatch, memory: torch.Tensor) -> torch.Tensor:
        """Return m of the states around the tokens, (batch, time + 1, feature), from μ, (batch, time, feature)."""
        weight = self.weights(batch)
        total = weight.sum(dim=-1, keepdim=True).clamp(min=1.0)
        return torch.as_tensor((weight @ memory) * total**-self.length_power)

    def weights(self, batch: StateBatch) -> torch.Tensor:
        """Return a_tj, (batch, time + 1, time); 0 for events after the state and for padding."""
        users, time = batch.item.shape
        trust = (1.0 + self.by_type[batch.event_type] + self.by_reward * batch.reward).clamp(min=0.0)
        months = torch.expm1(batch.log_gap).cumsum(dim=1) / HOURS_PER_MONTH
        session = batch.new_session.cumsum(dim=1)
        start = torch.zeros(users, 1, device=months.device)
        state = torch.arange(time + 1, device=months.device)[:, None]
        event = torch.arange(time, device=months.device)[None, :]
        age = (state - 1 - event).clamp(min=0)
        passed = (torch.cat([start, months], dim=1)[:, :, None] - months[:, None, :]).clamp(min=0.0)
        same = torch.cat([start, session], dim=1)[:, :, None] == session[:, None, :]
        log_weight = -softplus(self.by_age) * age - softplus(self.by_time) * passed + self.same_session * same
        happened = (event < state) & batch.present[:, None, :]
        return log_weight.exp() * trust[:, None, :] * happened

    def read(self, summed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what Q and what the behaviour head ask memory vectors with."""
        return summed * self.log_readout.exp(), summed * self.log_behavior_readout.exp()
