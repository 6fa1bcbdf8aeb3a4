"""Where fast weights start: what a user's attributes and the look of the support say before any equation is solved.

w_0(u) = w̄ + Σ_a E_a[u_a] + V Σ_t relu(W [φ(i_t); r_t] + T[type_t]) / √(1 + k). A sum over pairs of item and reward
knows neither order nor position, so it is not tied to the policy that chose them. Without support only attributes
speak. The shape of such an encoder: probabilistic embeddings for meta-RL (Rakelly et al. 2019, PEARL, eq. 2), as a sum.
"""

from collections.abc import Sequence

import torch
from torch import nn


class AmortisedPrior(nn.Module):
    """Maps attributes and a support set to a shift of the prior mean; zero until it has learnt."""

    def __init__(self, features: int, event_types: int, attribute_sizes: Sequence[int], hidden: int) -> None:
        super().__init__()
        # code 0 = unknown, and says nothing
        self.attributes = nn.ModuleList(
            nn.Embedding(size + 1, features, padding_idx=0) for size in attribute_sizes
        )
        for table in self.attributes.parameters():
            nn.init.zeros_(table)
        self.read = nn.Linear(features + 1, hidden)
        self.event_type = nn.Embedding(event_types, hidden)
        nn.init.zeros_(self.event_type.weight)
        self.write = nn.Linear(hidden, features, bias=False)
        nn.init.zeros_(self.write.weight)

    def of_attributes(self, attributes: torch.Tensor) -> torch.Tensor:
        """Return the shift without support, (batch, feature), from codes, (batch, attribute)."""
        shift = attributes.new_zeros(
            (len(attributes), self.write.out_features), dtype=self.write.weight.dtype
        )
        for place, table in enumerate(self.attributes):
            shift = shift + table(attributes[:, place])
        return shift

    def of_support(
        self,
        features: torch.Tensor,  # (batch, support, feature)
        reward: torch.Tensor,  # (batch, support)
        event_type: torch.Tensor,  # (batch, support)
        present: torch.Tensor,  # (batch, support)
    ) -> torch.Tensor:
        """Return what the support adds, (batch, feature)."""
        pair = self.read(torch.cat([features, reward[..., None]], dim=-1)) + self.event_type(event_type)
        pooled = (torch.relu(pair) * present[..., None]).sum(dim=1)
        count = present.sum(dim=1, keepdim=True).to(pooled.dtype)
        return torch.as_tensor(self.write(pooled / torch.sqrt(1.0 + count)))
