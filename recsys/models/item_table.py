"""The whole catalogue as constants: what evaluation, distillation and serving score against."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ItemTable:
    """First axis item, except for the two means."""

    vectors: torch.Tensor  # e_i
    bias: torch.Tensor  # b_i, in units of Q
    features: torch.Tensor  # φ(i), whitened
    mean_vector: torch.Tensor  # mean of e_i, so that Q̄(s) = V(s) + ⟨f(s), ē⟩ + b̄ costs one inner product
    mean_bias: torch.Tensor

    @staticmethod
    def of(vectors: torch.Tensor, bias: torch.Tensor, features: torch.Tensor) -> "ItemTable":
        """Build the table from its columns."""
        return ItemTable(vectors, bias, features, vectors.mean(dim=0), bias.mean())

    def __len__(self) -> int:
        return len(self.bias)

    def index_vectors(self) -> torch.Tensor:
        """Return [e_i, φ(i), b_i], whose inner product with [f(s), w_u, 1] ranks as Q_u does."""
        return torch.cat([self.vectors, self.features, self.bias[:, None]], dim=1)
