"""What a history says of items that go together: fast weights over item vectors, read out by the state.

    m(s_t) = Σ_{j ≤ t} ( d_t n_t^{-ν} a_tj + c d'_t n_t^{-ν'} b_tj ) μ_j,     n_t = Σ_j |a_tj|,  d_t = n_t / (n_t + κ)
    a_tj = y_j · exp(−λ (t − j) − δ months + σ same session),       y_j = 1 + w_type + w_r r_j
    b_t  = (M_t M_tᵀ + σ² I)⁻¹ y_{1..t}

with μ_j the memory vector of the item of event j, M_t their matrix. Q and the behaviour head read it as ⟨D m(s), μ_i⟩
with a diagonal D of their own. The first part is item-kNN with a learnt spectrum, learnt forgetting and learnt trust in
long histories (the power ν: factored item similarity models, Kabbur et al. 2013, FISM, eq. 3). The second is the
posterior mean of a Bayesian linear model of what was chosen (Bishop 2006, eq. 3.53, in dual form): what similar events
have said already counts once, which matters more the longer the history. To both the sequence encoder adds what order
says. Without any event m is zero.

Doubt: with κ > 0 a part is trusted fully only once n exceeds κ by far, as a mean is shrunk towards its prior by so many
pseudo-observations. y may be negative or zero: what was shown and met silence, or was rated low, speaks against its
kind, or not at all.
"""

import math

import torch
from torch import nn
from torch.nn.functional import softplus

from recsys.mdp.state import StateBatch

HOURS_PER_MONTH = 720.0
NO_DOUBT = (
    -40.0
)  # log κ, small enough for κ to vanish beside any event, and finite, so that averages of weights are
SLOW_DECAY = -4.0  # softplus⁻¹: forgetting starts at two percent an event and a month


class HistoryMemory(nn.Module):
    """Sums the memory vectors of a history, weighed by what happened when."""

    least_said: torch.Tensor
    log_behavior_readout: nn.Parameter | None

    def __init__(self, features: int, event_types: int, *, behavior: bool = True) -> None:
        super().__init__()
        self.by_type = nn.Parameter(torch.zeros(event_types))
        self.by_reward = nn.Parameter(torch.zeros(()))
        self.by_age = nn.Parameter(torch.tensor(SLOW_DECAY))
        self.by_time = nn.Parameter(torch.tensor(SLOW_DECAY))
        self.same_session = nn.Parameter(torch.zeros(()))
        self.length_power = nn.Parameter(torch.tensor(0.5))
        self.log_noise = nn.Parameter(torch.zeros(()))
        self.explained_power = nn.Parameter(torch.tensor(0.25))
        self.log_explained = nn.Parameter(torch.zeros(()))
        self.log_doubt = nn.Parameter(
            torch.full((2,), NO_DOUBT)
        )  # log κ of the sum and of what explains away
        self.log_readout = nn.Parameter(torch.zeros(features))
        self.log_behavior_readout = nn.Parameter(torch.zeros(features)) if behavior else None
        self.register_buffer(
            "least_said", torch.tensor(torch.finfo(torch.float32).min)
        )  # no bound; 0 in older weights, where nothing spoke against
        self.register_load_state_dict_pre_hook(_as_it_was)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def start_from(self, scale: float, temperature: float, doubt: float = 0.0) -> None:
        """Start both readouts from a scale in logits, and κ; Q is in units of reward, logits times temperature."""
        self.log_doubt.fill_(math.log(doubt) if doubt > 0 else NO_DOUBT)
        self.log_readout.fill_(math.log(scale * temperature))
        if self.log_behavior_readout is not None:
            self.log_behavior_readout.fill_(math.log(scale))

    def hand_down(self, teacher: "HistoryMemory") -> None:
        """Start as a teacher's memory in all that this one has; raises KeyError where the teacher lacks a part."""
        theirs = teacher.state_dict()
        self.load_state_dict({name: theirs[name] for name in self.state_dict()})

    def forward(self, batch: StateBatch, memory: torch.Tensor) -> torch.Tensor:
        """Return m of the states around the tokens, (batch, time + 1, feature), from μ, (batch, time, feature)."""
        weight = self.weights(batch)
        heard = weight.abs().sum(dim=-1, keepdim=True)
        trusted = heard / (heard + self.log_doubt.exp()).clamp(min=1e-6)  # d_t of both parts
        total = heard.clamp(min=1.0)
        coefficient = trusted[..., :1] * weight * total**-self.length_power
        explained = trusted[..., 1:] * self.explained(batch, memory) * total**-self.explained_power
        return torch.as_tensor((coefficient + self.log_explained.exp() * explained) @ memory)

    def explained(self, batch: StateBatch, memory: torch.Tensor) -> torch.Tensor:
        """Return b_tj, (batch, time + 1, time), of all prefixes from one factorisation.

        With LLᵀ = M Mᵀ + σ²I over the whole history, the factor of a prefix is the leading block of L and the inverse
        of that block the leading block of L⁻¹, so b_t = Σ_{l ≤ t} (L⁻¹y)_l (L⁻¹)_l: each event adds one row.
        """
        present = batch.present
        known = memory * present[..., None]
        eye = torch.eye(known.shape[1], dtype=known.dtype, device=known.device)
        factor = torch.linalg.cholesky(known @ known.transpose(1, 2) + self.log_noise.exp() * eye)
        inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        innovation = (inverse @ (self.trust(batch) * present)[..., None])[..., 0]
        steps = (innovation[..., None] * inverse).cumsum(dim=1)
        return nn.functional.pad(steps, (0, 0, 1, 0))

    def trust(self, batch: StateBatch) -> torch.Tensor:
        """Return y = 1 + w_type + w_r r of each event, (batch, time)."""
        said = 1.0 + self.by_type[batch.event_type] + self.by_reward * batch.reward
        return torch.maximum(said, self.least_said)

    def weights(self, batch: StateBatch) -> torch.Tensor:
        """Return a_tj, (batch, time + 1, time); 0 for events after the state and for padding."""
        users, time = batch.item.shape
        trust = self.trust(batch)
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

    def scalars(self) -> list[nn.Parameter]:
        """Return what says how far events are trusted; too few numbers, and too slow ones, for the network's rate."""
        slow = {id(self.log_readout), id(self.log_behavior_readout)}
        return [parameter for parameter in self.parameters() if id(parameter) not in slow]

    def read(self, summed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what Q and what the behaviour head, if there is one, ask memory vectors with."""
        asked = summed * self.log_readout.exp()
        if self.log_behavior_readout is None:
            return asked, summed[..., :0]
        return asked, summed * self.log_behavior_readout.exp()


def _as_it_was(_: nn.Module, weights: dict[str, torch.Tensor], prefix: str, *__: object) -> None:
    """Let weights from before b_tj, κ or negative evidence load as what they were: c = 0, κ = 0, y ≥ 0."""
    if f"{prefix}log_readout" in weights:
        weights.setdefault(f"{prefix}log_explained", torch.tensor(-torch.inf))
        weights.setdefault(f"{prefix}explained_power", torch.zeros(()))
        weights.setdefault(f"{prefix}log_noise", torch.zeros(()))
        weights.setdefault(f"{prefix}log_doubt", torch.full((2,), NO_DOUBT))
        weights.setdefault(f"{prefix}least_said", torch.zeros(()))
