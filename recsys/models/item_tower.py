"""Item vectors from an id embedding and content, so that an item without history has a vector too.

e_i = m_i · E_i + W c_i, with m_i = 0 for items never seen in training and, at random, for a share of items while
training (id dropout), which teaches W to stand in for a missing id.

Behind it stands the memory part μ_i, if there is one: co-occurrence factors, tuned slowly. A history that helped to
make the factors finds itself in them, and a network trained on it would trust them too much. So while training, each
fold of histories may read the factors that the other folds make (`held_out_fold`).
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import nn

from recsys.types import FloatArray

# From here on a training step may only touch the rows of items that it reads; below, touching all costs nothing.
LARGE_CATALOGUE = 100_000


class ItemTower(nn.Module):
    """Maps item indices to vectors e_i and biases b_i."""

    content: torch.Tensor
    known: torch.Tensor

    def __init__(
        self,
        items: int,
        content_features: int,
        item_features: int,
        id_dropout: float,
        memory_features: int = 0,
    ) -> None:
        super().__init__()
        self.id_embedding = nn.Embedding(items, item_features, sparse=items >= LARGE_CATALOGUE)
        nn.init.normal_(self.id_embedding.weight, std=0.1)
        self.content_map = nn.Linear(content_features, item_features)
        self.bias = nn.Embedding(items, 1, sparse=items >= LARGE_CATALOGUE)
        nn.init.zeros_(self.bias.weight)
        self.memory = (
            nn.Embedding(items, memory_features, sparse=items >= LARGE_CATALOGUE) if memory_features else None
        )
        if self.memory is not None:
            nn.init.zeros_(self.memory.weight)
        self.held_out_fold: int | None = None
        self.fold_factors: tuple[torch.Tensor, ...] = ()  # of each fold, minus the factors of everybody
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

    def remember(self, factors: FloatArray, by_fold: Sequence[FloatArray] = ()) -> None:
        """Start the memory part from factors, (item, feature); `by_fold` are those without each fold's histories."""
        if self.memory is None:
            raise RuntimeError("a tower without memory features has nothing to start; build it with some")
        with torch.no_grad():
            self.memory.weight.copy_(torch.from_numpy(factors))
        self.fold_factors = tuple(torch.from_numpy(fold - factors).to(self.known.device) for fold in by_fold)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Take the folds along wherever the module goes; as buffers, every move of a target network would copy them."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.fold_factors = tuple(fn(factors) for factors in self.fold_factors)
        return self

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        """Return e_i for indices of any shape, with one more axis: feature."""
        keep = self.known[item]
        if self.training and self.id_dropout > 0:
            keep = keep * (torch.rand(keep.shape, device=keep.device) >= self.id_dropout)
        learnt = torch.as_tensor(
            self.id_embedding(item) * keep[..., None] + self.content_map(self.content[item])
        )
        if self.memory is None:
            return learnt
        remembered = self.memory(item)
        if self.held_out_fold is not None:
            remembered = remembered + self.fold_factors[self.held_out_fold][item]
        return torch.cat([learnt, remembered], dim=-1)

    def biases(self, item: torch.Tensor) -> torch.Tensor:
        """Return b_i for indices of any shape."""
        return torch.as_tensor(self.bias(item))[..., 0]

    @torch.no_grad()
    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (e, b) of the whole catalogue, (item, feature) and (item,), with ids never dropped."""
        was_training, fold = self.training, self.held_out_fold
        self.eval()
        self.held_out_fold = None
        vectors = self(torch.arange(self.id_embedding.num_embeddings, device=self.known.device))
        self.train(was_training)
        self.held_out_fold = fold
        return vectors, self.bias.weight[:, 0].clone()
