"""Sampled softmax with log-Q correction, over negatives shared by the batch.

With logits z_i, negatives drawn from q and the logged item a, the loss is the cross-entropy of a among the logged item
and the negatives under z_i − log q_i (Bengio & Senécal 2008; Yi et al. 2019). It does not grow with the catalogue.
"""

from dataclasses import dataclass

import numpy as np
import torch

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

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return `count` item indices, with replacement."""
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.searchsorted(self.cumulative, uniform).clamp(max=len(self.cumulative) - 1)


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean, zero of no values: a batch may hold nothing that a loss asks about."""
    return values.sum() / max(values.numel(), 1)


def sampled_cross_entropy(
    positive_logit: torch.Tensor,  # (row,)
    positive_item: torch.Tensor,  # (row,)
    negative_logit: torch.Tensor,  # (row, negative)
    negative_item: torch.Tensor,  # (negative,)
    log_probability: torch.Tensor,  # (item,)
) -> torch.Tensor:
    """Return the corrected cross-entropy of each row; a negative equal to the row's item does not count."""
    positive = positive_logit - log_probability[positive_item]
    negative = negative_logit - log_probability[negative_item]
    negative = negative.masked_fill(negative_item[None, :] == positive_item[:, None], -torch.inf)
    return torch.logaddexp(torch.logsumexp(negative, dim=1), positive) - positive
