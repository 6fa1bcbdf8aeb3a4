"""The inner loop: support set -> fast weights. The one function that meta-training, evaluation and serving share.

Q_u(s, i) = Q_θ(s, i) + w_uᵀφ(i), with prior w_u ~ N(w_0, I) in whitened features φ(i) = Λ^{-1/2} ψ(i). ψ are the
item's co-occurrence factors, corrected by a learned map of factors and content; Λ = diag(λ) is the meta-learned prior
precision. Given the evidence r_t of the support's events, the posterior mean is

    w_u = w_0 + Φᵀ (ΦΦᵀ + σ² I)⁻¹ (r − Φ w_0)                    (dual form: the solve is support × support)

and with no support w_u = w_0, so that the adapted Q is exactly the meta Q. The evidence of an event is its one-step
return, bootstrapped from the frozen return head U, against what the meta Q expected,

    r_t = k^b · ( g_e · [ r_t + γ U(s_{t+1}) − Q̄(s_t) − c (Q_θ(s_t, i_t) − Q̄(s_t)) ] + o_e ),

Q̄(s) = mean over items of Q_θ(s, i), k the size of the support, with meta-learned gain g_e and offset o_e per event
type, growth b and c in (0, 1). Departure from plain Bayesian regression, which has g = c = 1 and b = o = 0: logged
returns hardly differ between the items a user chose, and a small positive return (a click) is still a choice for the
item; how much a choice is worth is learnt by the outer loop, which starts from evidence that averages the event
type's reward.
"""

from dataclasses import dataclass

import torch
from torch import nn

from recsys.mdp.state import StateBatch
from recsys.models.item_table import ItemTable
from recsys.models.q_network import StateVectors


@dataclass(frozen=True)
class SupportSet:
    """Events to adapt to, padded behind; all (batch, support)."""

    item: torch.Tensor
    event_type: torch.Tensor
    target: torch.Tensor  # r_t + γ U(s_{t+1})
    mean_q: torch.Tensor  # Q̄(s_t)
    q: torch.Tensor  # Q_θ(s_t, i_t)
    present: torch.Tensor  # bool


@dataclass(frozen=True)
class FastWeights:
    """A user's head in whitened features."""

    mean: torch.Tensor  # w_u, (batch, feature)


class AdaptationPrior(nn.Module):
    """The meta-learned prior over fast weights, and what an event is worth as evidence; all that serving needs."""

    def __init__(self, features: int, event_types: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(features))
        self.log_noise = nn.Parameter(torch.zeros(()))
        self.gain = nn.Parameter(torch.ones(event_types))
        self.offset = nn.Parameter(torch.zeros(event_types))
        self.mix_logit = nn.Parameter(torch.tensor(-2.0))
        self.growth = nn.Parameter(torch.zeros(()))

    def evidence(self, support: SupportSet) -> torch.Tensor:
        """Return r_t of each support event, zero on padding; (batch, support)."""
        surprise = self.gain[support.event_type] * self.surprise(support) + self.offset[support.event_type]
        trust = support.present.sum(dim=1, keepdim=True).clamp(min=1).to(self.growth.dtype) ** self.growth
        return trust * surprise * support.present

    def surprise(self, support: SupportSet) -> torch.Tensor:
        """Return r_t + γU(s_{t+1}) − Q̄ − c (Q − Q̄) of each support event; (batch, support)."""
        return support.target - support.mean_q - torch.sigmoid(self.mix_logit) * (support.q - support.mean_q)

    def adapt(self, features: torch.Tensor, support: SupportSet) -> FastWeights:
        """Return the posterior mean given the whitened features of the support's items, (batch, support, feature)."""
        phi = features * support.present[..., None]
        residual = self.evidence(support) - phi @ self.mean
        gram = phi @ phi.transpose(1, 2)
        noise = torch.exp(self.log_noise) * torch.eye(gram.shape[1], dtype=gram.dtype)
        solved = torch.cholesky_solve(residual[..., None], torch.linalg.cholesky(gram + noise))
        return FastWeights(self.mean + (phi * solved).sum(dim=1))


class AdaptationHead(nn.Module):
    """The prior with the map from items to whitened features, as the outer loop learns both."""

    factors: torch.Tensor
    content: torch.Tensor

    def __init__(self, items: int, features: int, content_features: int, event_types: int) -> None:
        super().__init__()
        self.register_buffer("factors", torch.zeros(items, features))
        self.register_buffer("content", torch.zeros(items, content_features))
        self.prior = AdaptationPrior(features, event_types)
        self.log_precision = nn.Parameter(torch.zeros(features))
        self.correction = nn.Linear(features + content_features, features, bias=False)
        nn.init.zeros_(self.correction.weight)

    def item_features(self, item: torch.Tensor) -> torch.Tensor:
        """Return the whitened features φ(i) of items of any shape, with one more axis: feature."""
        factors = self.factors[item]
        raw = factors + self.correction(torch.cat([factors, self.content[item]], dim=-1))
        return torch.as_tensor(raw * torch.exp(-0.5 * self.log_precision))


def support_set(
    batch: StateBatch,
    states: StateVectors,
    item_vectors: torch.Tensor,  # (batch, support, feature)
    item_bias: torch.Tensor,  # (batch, support)
    mean_vector: torch.Tensor,  # (feature,)
    mean_bias: torch.Tensor,
    shots: torch.Tensor,  # (batch,)
    discount: float,
) -> SupportSet:
    """Return the first `shots` events of each row as a support set, as wide as `item_bias`."""
    width = item_bias.shape[1]
    advantage, value = states.advantage[:, :width], states.value[:, :width]
    return SupportSet(
        item=batch.item[:, :width].clamp(min=0),
        event_type=batch.event_type[:, :width],
        target=batch.reward[:, :width] + discount * states.behavior_return[:, 1 : width + 1],
        mean_q=value + advantage @ mean_vector + mean_bias,
        q=value + (advantage * item_vectors).sum(-1) + item_bias,
        present=torch.arange(width)[None, :] < shots[:, None],
    )


def adapt_to_first(
    batch: StateBatch,
    states: StateVectors,
    table: ItemTable,
    prior: AdaptationPrior,
    shots: torch.Tensor,  # (batch,)
    discount: float,
) -> FastWeights:
    """Adapt every row to its first `shots` events over a constant item table, as evaluation and serving do."""
    item = batch.item[:, : max(1, int(shots.max()))].clamp(min=0)
    support = support_set(
        batch,
        states,
        table.vectors[item],
        table.bias[item],
        table.mean_vector,
        table.mean_bias,
        shots,
        discount,
    )
    return prior.adapt(table.features[item], support)
