"""Item vectors from an id embedding and content, so that an item without history has a vector too.

e_i = m_i · E_i + W c_i, with m_i = 0 for items never seen in training and, at random, for a share of items while
training (id dropout), which teaches W to stand in for a missing id.
"""

import torch
from torch import nn

from recsys.types import FloatArray

# From here on a training step may only touch the rows of items that it reads; below, touching all costs nothing.
LARGE_CATALOGUE = 100_000


class ItemTower(nn.Module):
    """Maps item indices to vectors e_i and biases b_i."""

    content: torch.Tensor
    known: torch.Tensor

    def __init__(self, items: int, content_features: int, item_features: int, id_dropout: float) -> None:
        super().__init__()
        self.id_embedding = nn.Embedding(items, item_features, sparse=items >= LARGE_CATALOGUE)
        nn.init.normal_(self.id_embedding.weight, std=0.1)
        self.content_map = nn.Linear(content_features, item_features)
        self.bias = nn.Embedding(items, 1, sparse=items >= LARGE_CATALOGUE)
        nn.init.zeros_(self.bias.weight)
        self.id_dropout = id_dropout
        self.register_buffer("content", torch.zeros(items, content_features))
        self.register_buffer("known", torch.ones(items))

    def start_from(
        self, content: FloatArray, factors: FloatArray, log_popularity: FloatArray, known: FloatArray
    ) -> None:
        """Set content and start embeddings from co-occurrence factors and biases from log popularity, (item, ...)."""
        with torch.no_grad():
            self.content.copy_(torch.from_numpy(content))
            self.known.copy_(torch.from_numpy(known))
            scaled = torch.from_numpy(factors)
            self.id_embedding.weight.copy_(scaled * (0.3 / scaled.std().clamp(min=1e-6)))
            self.bias.weight.copy_(torch.from_numpy(log_popularity)[:, None])

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        """Return e_i for indices of any shape, with one more axis: feature."""
        keep = self.known[item]
        if self.training and self.id_dropout > 0:
            keep = keep * (torch.rand(keep.shape, device=keep.device) >= self.id_dropout)
        return torch.as_tensor(
            self.id_embedding(item) * keep[..., None] + self.content_map(self.content[item])
        )

    def biases(self, item: torch.Tensor) -> torch.Tensor:
        """Return b_i for indices of any shape."""
        return torch.as_tensor(self.bias(item))[..., 0]

    @torch.no_grad()
    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (e, b) of the whole catalogue, (item, feature) and (item,), with ids never dropped."""
        was_training = self.training
        self.eval()
        vectors = self(torch.arange(self.id_embedding.num_embeddings, device=self.known.device))
        self.train(was_training)
        return vectors, self.bias.weight[:, 0].clone()
