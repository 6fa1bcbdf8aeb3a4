"""Where states lie: the network's state vectors after each event, and two directions in which they differ most."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
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


def state_map(vectors: FloatArray) -> pd.DataFrame:
    """Return states on two axes: history, event, x, y, and the share of the variance that the axes hold in `attrs`.

    Principal components of all given states, (history, event, feature); the axes' signs are fixed, so that the same
    states give the same map.
    """
    histories, events, features = vectors.shape
    flat = vectors.reshape(-1, features).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    first = directions[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    places = centred @ first
    frame = pd.DataFrame(
        {
            "history": np.repeat(np.arange(histories), events),
            "event": np.tile(np.arange(events), histories),
            "x": places[:, 0],
            "y": places[:, 1],
        }
    )
    frame.attrs["explained"] = float(values[::-1][:2].sum() / max(values.sum(), 1e-12))
    return frame
