"""The vectors that a network makes of histories, event by event."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from recsys.mdp.state import History, encode_states
from recsys.models.q_network import QNetwork
from recsys.models.student import StudentNetwork
from recsys.types import FloatArray

_AT_ONCE: Final = 256  # histories


@torch.no_grad()
def state_vectors(
    network: QNetwork | StudentNetwork, histories: Sequence[History], events: int
) -> FloatArray:
    """Return f(s), the query that asks for items, after 0, 1, … `events` events, (history, events + 1, feature).

    Where a history is shorter its last state is repeated.
    """
    training = network.training
    network.eval()
    parts = []
    for start in range(0, len(histories), _AT_ONCE):
        batch = encode_states(
            [history.first(events) for history in histories[start : start + _AT_ONCE]], events
        )
        asked = network.state_vectors(batch).advantage
        place = torch.minimum(torch.arange(events + 1), batch.lengths[:, None])  # (history, events + 1)
        parts.append(asked.gather(1, place[..., None].expand(-1, -1, asked.shape[-1])).numpy())
    network.train(training)
    return (
        np.concatenate(parts)
        if parts
        else np.zeros((0, events + 1, network.shape.vector_features), np.float32)
    )
