"""The inner loop: support set -> fast weights. The one function that meta-training, evaluation and serving share.

Q_u(s, i) = Q_θ(s, i) + w_uᵀφ(i), with prior w_u ~ N(w_0, I) in whitened features φ(i) = Λ^{-1/2} ψ(i). ψ are the
item's co-occurrence factors, corrected by a learned map of factors and content; Λ = diag(λ) is the meta-learned prior
precision. Given the evidence r_t of the support's events, the posterior mean is

    w_u = w_0 + Φᵀ (ΦΦᵀ + σ² W⁻¹)⁻¹ (r − Φ w_0)                  (dual form: the solve is support × support)

with W = diag(ρ^age), ρ ≤ 1, and with no support w_u = w_0, so that the adapted Q is exactly the meta Q. The start w_0
may depend on the user (recsys/amortised_prior.py). Weak negatives, all that the user did not choose, belong to the
prior as in implicit matrix factorisation (Hu et al. 2008, eq. 4): with the Gramian G of the catalogue's features the
precision is Λ + αG, which is one more fixed map of φ. recsys/posterior.py solves the same event by event.

The evidence of an event is its n-step return within the support, bootstrapped from the frozen return head U (never
from an adapted Q), against what the meta Q expected,

    r_t = k^b · ( g_e · [ R_t^(n) + γⁿ U(s_{t+n}) − Q̄(s_t) − c (Q_θ(s_t, i_t) − Q̄(s_t)) ] + o_e ),

Q̄(s) = mean over items of Q_θ(s, i), k the size of the support, with meta-learned gain g_e and offset o_e per event
type, growth b and c in (0, 1). Departure from plain Bayesian regression, which has g = c = 1 and b = o = 0: logged
returns hardly differ between the items a user chose, and a small positive return (a click) is still a choice for the
item; how much a choice is worth is learnt by the outer loop, which starts from evidence that averages the event
type's reward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import softplus

from recsys.amortised_prior import AmortisedPrior
from recsys.mdp.state import StateBatch
from recsys.models.item_table import ItemTable
from recsys.models.q_network import StateVectors


@dataclass(frozen=True)
class SupportSet:
    """Events to adapt to, padded behind; all (batch, support)."""

    item: torch.Tensor
    event_type: torch.Tensor
    reward: torch.Tensor
    target: torch.Tensor  # R_t^(n) + γⁿ U(s_{t+n})
    mean_q: torch.Tensor  # Q̄(s_t)
    q: torch.Tensor  # Q_θ(s_t, i_t)
    present: torch.Tensor  # bool
    attributes: torch.Tensor  # of the user, (batch, attribute)


NO_DECAY, SLOW_DECAY = -40.0, -6.0  # softplus⁻¹ of −log ρ: ρ = 1, and ρ = .9975


class Adapted(Protocol):
    """What users' fast weights add to Q."""

    def shift(self, features: torch.Tensor) -> torch.Tensor:
        """Return Q_u − Q_θ of every user and item, (batch, item), from (item, feature)."""
        ...

    def shift_of(self, row: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return Q_u − Q_θ of pairs, (pair,), from the row of each one's user and its item's (pair, feature)."""
        ...


class InnerLoop(Protocol):
    """Support set -> fast weights: in closed form (AdaptationPrior) or by gradient (gradient_adaptation.py)."""

    n_step: torch.Tensor  # rewards that an event's evidence counts

    def before_support(self, attributes: torch.Tensor) -> Adapted:
        """Return the fast weights of users before any event, from (batch, attribute)."""
        ...

    def adapt(self, features: torch.Tensor, support: SupportSet) -> Adapted:
        """Return the fast weights given whitened features of the support's items, (batch, support, feature)."""
        ...


@dataclass(frozen=True)
class FastWeights:
    """A user's head in whitened features: the posterior N(w_u, Σ) with Σ = I − Φᵀ(ΦΦᵀ + σ² W⁻¹)⁻¹Φ."""

    mean: torch.Tensor  # w_u, (batch, feature)
    features: torch.Tensor  # Φ, zero on padding, (batch, support, feature)
    factor: torch.Tensor  # Cholesky factor of ΦΦᵀ + σ² W⁻¹, (batch, support, support)

    def shift(self, features: torch.Tensor) -> torch.Tensor:
        """Return w_uᵀφ(i), (batch, item), from (item, feature)."""
        return self.mean @ features.T

    def shift_of(self, row: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return w_uᵀφ of pairs, (pair,), from rows of users and (pair, feature)."""
        return (self.mean[row] * features).sum(-1)

    def learnt(self) -> torch.Tensor:
        """Return D, (batch, support, feature), with Σ = I − DᵀD."""
        return torch.as_tensor(torch.linalg.solve_triangular(self.factor, self.features, upper=False))

    def variance(self, features: torch.Tensor) -> torch.Tensor:
        """Return φᵀΣφ of every user and item, (batch, item), from (item, feature)."""
        explained = (self.learnt() @ features.T).square().sum(dim=1)
        return torch.as_tensor((features.square().sum(dim=1) - explained).clamp(min=0.0))


class AdaptationPrior(nn.Module):
    """The meta-learned prior over fast weights, and what an event is worth as evidence; all that serving needs."""

    n_step: torch.Tensor

    def __init__(
        self,
        features: int,
        event_types: int,
        attribute_sizes: Sequence[int] = (),
        hidden: int = 0,  # of the amortised start; 0 = every user starts at the mean
        n_step: int = 1,
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(features))
        self.amortised = AmortisedPrior(features, event_types, attribute_sizes, hidden) if hidden else None
        self.log_decay = nn.Parameter(torch.tensor(SLOW_DECAY))
        self.register_buffer("n_step", torch.tensor(n_step))
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

    def without_support(self, attributes: torch.Tensor) -> torch.Tensor:
        """Return w_0 of users before any event, (batch, feature), from (batch, attribute)."""
        start = self.mean.expand(len(attributes), -1)
        return start if self.amortised is None else start + self.amortised.of_attributes(attributes)

    def before_support(self, attributes: torch.Tensor) -> FastWeights:
        """Return the prior N(w_0, I) of users before any event, from (batch, attribute)."""
        start = self.without_support(attributes)
        users, features = start.shape
        return FastWeights(start, start.new_zeros(users, 0, features), start.new_zeros(users, 0, 0))

    def start(self, phi: torch.Tensor, support: SupportSet) -> torch.Tensor:
        """Return w_0 of users, (batch, feature), given the features of what they did."""
        start = self.without_support(support.attributes)
        if self.amortised is None:
            return start
        return start + self.amortised.of_support(phi, support.reward, support.event_type, support.present)

    def noise(self, present: torch.Tensor) -> torch.Tensor:
        """Return σ² / ρ^age of each support event, (batch, support); the newest event has age 0."""
        age = (present.flip(1).cumsum(dim=1).flip(1) - 1).clamp(min=0)
        return torch.exp(self.log_noise + softplus(self.log_decay) * age)

    def adapt(self, features: torch.Tensor, support: SupportSet) -> FastWeights:
        """Return the posterior given the whitened features of the support's items, (batch, support, feature)."""
        phi = features * support.present[..., None]
        start = self.start(phi, support)
        residual = self.evidence(support) - (phi @ start[..., None])[..., 0]
        gram = phi @ phi.transpose(1, 2)
        factor = torch.linalg.cholesky(gram + torch.diag_embed(self.noise(support.present)))
        solved = torch.cholesky_solve(residual[..., None], factor)
        return FastWeights(start + (phi * solved).sum(dim=1), phi, factor)

    @staticmethod
    def from_weights(weights: Mapping[str, torch.Tensor]) -> "AdaptationPrior":
        """Return the prior of a bundle; its sizes are those of its tensors, and what an older one lacks is neutral."""
        hidden = weights["amortised.read.weight"].shape[0] if "amortised.read.weight" in weights else 0
        tables = sum(name.startswith("amortised.attributes.") for name in weights)
        sizes = [len(weights[f"amortised.attributes.{place}.weight"]) - 1 for place in range(tables)]
        prior = AdaptationPrior(len(weights["mean"]), len(weights["gain"]), sizes, hidden)
        neutral = {"log_decay": torch.tensor(NO_DECAY), "n_step": torch.tensor(1)}
        prior.load_state_dict({**neutral, **weights})
        return prior


class AdaptationHead(nn.Module):
    """The prior with the map from items to whitened features, as the outer loop learns both."""

    factors: torch.Tensor
    content: torch.Tensor

    gramian: torch.Tensor

    def __init__(self, items: int, content_features: int, prior: AdaptationPrior) -> None:
        super().__init__()
        features = len(prior.mean)
        self.register_buffer("factors", torch.zeros(items, features))
        self.register_buffer("content", torch.zeros(items, content_features))
        self.register_buffer("gramian", torch.zeros(features, features))
        self.prior = prior
        self.log_negatives = nn.Parameter(torch.zeros(()))  # log α
        self.log_precision = nn.Parameter(torch.zeros(features))
        self.correction = nn.Linear(features + content_features, features, bias=False)
        nn.init.zeros_(self.correction.weight)

    def item_features(self, item: torch.Tensor) -> torch.Tensor:
        """Return the whitened features φ(i) of items of any shape, with one more axis: feature."""
        whitened = self._of_prior(item)
        if not self.gramian.any():
            return whitened
        eye = torch.eye(len(self.gramian), dtype=self.gramian.dtype)
        factor = torch.linalg.cholesky(eye + torch.exp(self.log_negatives) * self.gramian)
        flat = whitened.reshape(-1, whitened.shape[-1])
        # L⁻¹φ, so that inner products are those under the precision I + αG = LLᵀ
        mapped = torch.linalg.solve_triangular(factor, flat.T, upper=False).T
        return torch.as_tensor(mapped.reshape(whitened.shape))

    @torch.no_grad()
    def refresh_gramian(self) -> None:
        """Recompute G = mean over items with factors of φφᵀ from the features as they are now."""
        known = torch.nonzero(self.factors.abs().sum(dim=1) > 0)[:, 0]
        phi = self._of_prior(known)
        self.gramian.copy_(phi.T @ phi / max(len(known), 1))

    def _of_prior(self, item: torch.Tensor) -> torch.Tensor:
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
    n_step: int = 1,
) -> SupportSet:
    """Return the first `shots` events of each row as a support set, as wide as `item_bias`."""
    width = item_bias.shape[1]
    present = torch.arange(width)[None, :] < shots[:, None]
    advantage, value = states.advantage[:, :width], states.value[:, :width]
    return SupportSet(
        item=batch.item[:, :width].clamp(min=0),
        event_type=batch.event_type[:, :width],
        reward=batch.reward[:, :width],
        target=_returns(batch.reward[:, :width], states.behavior_return, present, shots, discount, n_step),
        mean_q=value + advantage @ mean_vector + mean_bias,
        q=value + (advantage * item_vectors).sum(-1) + item_bias,
        present=present,
        attributes=batch.attributes,
    )


def _returns(
    reward: torch.Tensor,  # (batch, support)
    behavior_return: torch.Tensor,  # U(s), (batch, time + 1)
    present: torch.Tensor,
    shots: torch.Tensor,
    discount: float,
    n_step: int,
) -> torch.Tensor:
    """Return Σ_{j<m} γ^j r_{t+j} + γ^m U(s_{t+m}), m = min(n, k − t): no event after the support is read."""
    width = reward.shape[1]
    if n_step == 1:
        return reward + discount * behavior_return[:, 1 : width + 1]
    kept = reward * present
    total = torch.zeros_like(kept)
    for ahead in range(min(n_step, width)):
        total[:, : width - ahead] += discount**ahead * kept[:, ahead:]
    steps = (shots[:, None] - torch.arange(width)).clamp(min=0, max=n_step)
    place = torch.arange(width) + steps
    return total + discount**steps * behavior_return.gather(1, place)


def first_support(
    batch: StateBatch,
    states: StateVectors,
    table: ItemTable,
    shots: torch.Tensor,  # (batch,)
    discount: float,
    n_step: int,
) -> tuple[torch.Tensor, SupportSet]:
    """Return the first `shots` events of every row over a constant item table, with the features of their items."""
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
        n_step,
    )
    return table.features[item], support


def adapt_to_first(
    batch: StateBatch,
    states: StateVectors,
    table: ItemTable,
    prior: AdaptationPrior,
    shots: torch.Tensor,  # (batch,)
    discount: float,
) -> FastWeights:
    """Adapt every row to its first `shots` events, as evaluation and serving do."""
    return prior.adapt(*first_support(batch, states, table, shots, discount, int(prior.n_step)))
