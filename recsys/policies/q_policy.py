"""The teacher as one more policy of the comparison: the catalogue ranked by Q, from the newest events.

With an inner loop it is Q_u: adapted to those same events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from recsys.adaptation import InnerLoop, first_support
from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import History, StateBatch, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork, StateVectors, without_memory
from recsys.types import FloatArray, LongArray

USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Adaptation:
    """How a network's Q is adapted to the events that its state was read from."""

    loop: InnerLoop
    table: ItemTable  # with the features that the loop knows items by
    discount: float
    reads_events: bool = True  # False = prior mode: every user as before any event


class QPolicy:
    """Scores by Q(s, i) of a trained network, adapted if it is told how; V(s) is left out, it ranks nothing."""

    def __init__(
        self,
        network: QNetwork,
        max_events: int,
        adaptation: Adaptation | None = None,
        *,
        remembers: bool = True,  # False = the memory is silent: what the state alone says
    ) -> None:
        self.network, self.max_events, self.adaptation = network, max_events, adaptation
        self.remembers = remembers
        network.eval()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Do nothing: `pretrain` trains the network."""
        return self

    @torch.no_grad()
    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return ⟨f(s), e_i⟩ + b_i, plus what fast weights add, after the newest `max_events` events, (user, item)."""
        vectors, bias = self.network.tower.table()
        bias = bias * self.network.temperature  # biases are stored as logits, Q is in units of reward
        scores = np.empty((len(histories), len(bias)), np.float32)
        for start in range(0, len(histories), USERS_AT_ONCE):
            batch = encode_states(histories[start : start + USERS_AT_ONCE], self.max_events)
            states = self.network.state_vectors(batch)
            last = states.advantage[torch.arange(len(batch.lengths)), batch.lengths]
            if not self.remembers:
                last = without_memory(last, self.network.shape.item_features)
            said = last @ vectors.T + bias
            if self.adaptation is not None:
                said = said + _shift(self.adaptation, batch, states)
            scores[start : start + USERS_AT_ONCE] = said.numpy()
        return scores


def _shift(how: Adaptation, batch: StateBatch, states: StateVectors) -> torch.Tensor:
    if not how.reads_events or batch.item.shape[1] == 0:
        return how.loop.before_support(batch.attributes).shift(how.table.features)
    told = first_support(batch, states, how.table, batch.lengths, how.discount, int(how.loop.n_step))
    return how.loop.adapt(*told).shift(how.table.features)
