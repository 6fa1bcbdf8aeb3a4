"""The teacher as one more policy of the comparison: the catalogue ranked by Q, from the newest events."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch

from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import History, encode_states
from recsys.models.q_network import QNetwork
from recsys.types import FloatArray, LongArray

USERS_AT_ONCE = 256


class QPolicy:
    """Scores by Q(s, i) of a trained network; V(s) is left out, it ranks nothing."""

    def __init__(self, network: QNetwork, max_events: int) -> None:
        self.network, self.max_events = network, max_events
        network.eval()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Do nothing: `pretrain` trains the network."""
        return self

    @torch.no_grad()
    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return ⟨f(s), e_i⟩ + b_i after the newest `max_events` events, (user, item)."""
        vectors, bias = self.network.tower.table()
        bias = bias * self.network.temperature  # biases are stored as logits, Q is in units of reward
        scores = np.empty((len(histories), len(bias)), np.float32)
        for start in range(0, len(histories), USERS_AT_ONCE):
            batch = encode_states(histories[start : start + USERS_AT_ONCE], self.max_events)
            states = self.network.state_vectors(batch)
            last = states.advantage[torch.arange(len(batch.lengths)), batch.lengths]
            scores[start : start + USERS_AT_ONCE] = (last @ vectors.T + bias).numpy()
        return scores
