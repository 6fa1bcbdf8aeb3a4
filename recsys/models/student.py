"""The small network that adapts and serves: a state network over the teacher's item table."""

import torch
from torch import nn

from recsys.mdp.state import StateBatch
from recsys.models.q_network import NetworkShape, StateNetwork, StateVectors


class StudentNetwork(nn.Module):
    """A state network that sees items through constants handed down by the teacher."""

    vectors: torch.Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.states = StateNetwork(shape)
        self.register_buffer("vectors", torch.zeros(shape.items, shape.vector_features), persistent=False)

    def state_vectors(self, batch: StateBatch) -> StateVectors:
        """Return the states around each token of the batch."""
        states: StateVectors = self.states(batch, self.vectors[batch.item.clamp(min=0)])
        return states
