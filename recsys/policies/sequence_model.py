"""A trained sequence model as it is kept and served: options and weights, and nothing that trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch

from recsys.mdp.state import History, encode_states
from recsys.policies.policy import Arrays
from recsys.policies.sequence_network import SequenceNetwork, SequenceShape
from recsys.types import FloatArray

USERS_AT_ONCE = 256


@dataclass(frozen=True)
class SequenceOptions:
    """Shape and training of a sequence model."""

    encoder: Literal["recurrent", "attention"] = "recurrent"
    features: int = 64  # width of e_i
    hidden: int = 96
    layers: int = 1
    dropout: float = 0.4
    id_dropout: float = 0.1
    max_events: int = 50
    horizon: int = 20  # the target is drawn from so many next events
    from_factors: bool = True  # start item vectors from co-occurrence factors
    epochs: int = 12
    patience: int = 3
    batch_size: int = 16  # windows
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    negatives: int = 512  # shared by the batch
    seed: int = 0
    identified_only: bool = True  # leave anonymous sessions out


class SequenceModel:
    """Ranks by the logits of a network."""

    network_: SequenceNetwork

    def __init__(self, options: SequenceOptions | None = None) -> None:
        self.options = options or SequenceOptions()
        # of restored weights, which stay as they are
        self._table: tuple[torch.Tensor, torch.Tensor] | None = None

    @torch.no_grad()
    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return the logits after the newest events of each history, (user, item)."""
        vectors, bias = self.network_.tower.table() if self._table is None else self._table
        scores = np.empty((len(histories), len(bias)), np.float32)
        for start in range(0, len(histories), USERS_AT_ONCE):
            batch = encode_states(histories[start : start + USERS_AT_ONCE], self.options.max_events)
            last = self.network_.queries(batch)[torch.arange(len(batch.lengths)), batch.lengths]
            scores[start : start + USERS_AT_ONCE] = (last @ vectors.T + bias).numpy()
        return scores

    def arrays(self) -> Arrays:
        """Return what is kept: the weights."""
        return {name: tensor.numpy() for name, tensor in self.network_.state_dict().items()}

    def restore(self, arrays: Arrays) -> Self:
        """Take the weights back; the shapes of tensors say what the log decided."""
        tables = [
            name for name in arrays if name.startswith("tokens.attributes.") and name.endswith("weight")
        ]
        in_order = sorted(tables, key=lambda name: (len(name), name))  # attribute 10 comes after 9
        items, content = arrays["tower.content"].shape
        self.network_ = self._fresh(
            SequenceShape(
                items=items,
                content_features=content,
                event_types=len(arrays["tokens.event_type.weight"]),
                attribute_sizes=tuple(len(arrays[name]) - 1 for name in in_order),
            )
        )
        self.network_.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        self.network_.eval()
        self._table = self.network_.tower.table()
        return self

    def _fresh(self, shape: SequenceShape) -> SequenceNetwork:
        o = self.options
        return SequenceNetwork(
            shape, o.encoder, o.features, o.hidden, o.layers, o.dropout, o.id_dropout, o.max_events
        )
