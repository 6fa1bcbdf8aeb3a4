"""Losses of single states: temporal difference, quantiles, cross-entropies over all actions or sampled ones.

The sampled softmax with log-Q correction shares negatives in a batch: with logits z_i, negatives drawn from q and the
logged item a, it is the cross-entropy of a among the logged item and the negatives under z_i − log q_i (Bengio &
Senécal 2008; Yi et al. 2019). It does not grow with the catalogue.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from recsys.types import FloatArray


@dataclass(frozen=True)
class NegativeSampler:
    """Draws items with probability proportional to (popularity + 1) ^ 0.75."""

    cumulative: torch.Tensor  # (item,) float64
    log_probability: torch.Tensor  # (item,) float32

    @staticmethod
    def from_popularity(popularity: FloatArray) -> "NegativeSampler":
        """Build the sampler from event counts, (item,)."""
        weight = (np.asarray(popularity, np.float64) + 1.0) ** 0.75
        probability = weight / weight.sum()
        return NegativeSampler(
            torch.from_numpy(np.cumsum(probability)), torch.from_numpy(np.log(probability).astype(np.float32))
        )

    def to(self, device: torch.device) -> "NegativeSampler":
        """Return the sampler with its tables on a device."""
        return NegativeSampler(self.cumulative.to(device), self.log_probability.to(device))

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return `count` item indices, with replacement."""
        uniform = torch.rand(count, generator=generator, dtype=torch.float64).to(self.cumulative.device)
        return torch.searchsorted(self.cumulative, uniform).clamp(max=len(self.cumulative) - 1)


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean, zero of no values: a batch may hold nothing that a loss asks about."""
    return values.sum() / max(values.numel(), 1)


def weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return Σ w · loss / number of values: importance weights keep the expectation of uniform sampling."""
    return mean(values if weight is None else values * weight)


def td_loss(
    q_value: torch.Tensor, target: torch.Tensor, kind: Literal["huber", "mse"], threshold: float
) -> torch.Tensor:
    """Return the loss of each gap u = y − Q: u² / 2; for Huber u² / 2κ up to the threshold κ, |u| − κ / 2 beyond."""
    if kind == "mse":
        return 0.5 * (target - q_value) ** 2
    return nn.functional.smooth_l1_loss(q_value, target, reduction="none", beta=threshold)


def quantile_loss(quantile: torch.Tensor, target: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return Σ_n mean_m |τ_n − 1{u < 0}| L_κ(u) / κ with u = target_m − quantile_n, τ_n = (n + 1/2) / N; (state,).

    The quantile Huber loss (Dabney et al. 2018, eq. 10); quantile (state, N), target (state, M). With a threshold κ
    that is small beside the spread of returns it finds quantiles; a larger κ draws them towards the mean.
    """
    count = quantile.shape[1]
    level = (torch.arange(count, device=quantile.device) + 0.5) / count
    gap = target[:, None, :] - quantile[:, :, None]  # (state, N, M)
    side = (level[:, None] - (gap < 0).to(gap.dtype)).abs()
    huber = nn.functional.smooth_l1_loss(gap, torch.zeros_like(gap), reduction="none", beta=threshold)
    return (side * huber).mean(dim=2).sum(dim=1)


def cross_entropy(logit: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Return log Σ_a' exp(z_a') − z_a of each row, (row,), from logits over all actions, (row, action).

    With z = Q / τ, τ times this is the conservative term of CQL(H) (Kumar et al. 2020, eq. 4).
    """
    return nn.functional.cross_entropy(logit, action, reduction="none")


def sampled_cross_entropy(
    positive_logit: torch.Tensor,  # (row,)
    positive_item: torch.Tensor,  # (row,)
    negative_logit: torch.Tensor,  # (row, negative)
    negative_item: torch.Tensor,  # (negative,)
    log_probability: torch.Tensor,  # (item,)
    taken: torch.Tensor | None = None,  # (row, negative)
) -> torch.Tensor:
    """Return the corrected cross-entropy of each row; the row's item and what is `taken` are no negatives."""
    positive = positive_logit - log_probability[positive_item]
    negative = negative_logit - log_probability[negative_item]
    same = negative_item[None, :] == positive_item[:, None]
    negative = negative.masked_fill(same if taken is None else same | taken, -torch.inf)
    return torch.logaddexp(torch.logsumexp(negative, dim=1), positive) - positive
