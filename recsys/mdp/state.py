"""Session -> state: the one function that offline training, evaluation and the live endpoint share.

A token of the state is (item, event type, reward, time gap, same session as the token before?). The newest
`max_events` events are kept and padding stands in front, so the last column is always the newest event.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recsys.types import ByteArray, FloatArray, IntArray, LongArray


@dataclass(frozen=True)
class History:
    """What one user did, oldest first; every array has shape (time,) but `attributes` (attribute,)."""

    item: IntArray
    event_type: ByteArray  # codes of the bundle's event types
    reward: FloatArray
    timestamp: LongArray  # seconds, UTC
    session: IntArray  # ordinal of the session
    attributes: IntArray  # 0 = unknown

    def __len__(self) -> int:
        return len(self.item)

    def first(self, events: int) -> "History":
        """Return the history cut after its first events."""
        return self._sliced(slice(0, events))

    def last(self, events: int) -> "History":
        """Return the newest events of the history."""
        return self._sliced(slice(max(0, len(self) - events), None))

    def _sliced(self, part: slice) -> "History":
        return History(
            self.item[part],
            self.event_type[part],
            self.reward[part],
            self.timestamp[part],
            self.session[part],
            self.attributes,
        )


def empty_history(attributes: IntArray) -> History:
    """Return the history of a user who has done nothing yet."""
    return History(
        np.empty(0, np.int32),
        np.empty(0, np.int8),
        np.empty(0, np.float32),
        np.empty(0, np.int64),
        np.empty(0, np.int32),
        attributes,
    )


@dataclass(frozen=True)
class StateBatch:
    """Token columns of a batch of histories, padded in front; item -1 marks padding."""

    item: torch.Tensor  # (batch, time) int64
    event_type: torch.Tensor  # (batch, time) int64
    reward: torch.Tensor  # (batch, time) float32
    log_gap: torch.Tensor  # (batch, time) float32, log(1 + hours since the token before)
    new_session: torch.Tensor  # (batch, time) float32, 1 where a session starts
    attributes: torch.Tensor  # (batch, attribute) int64

    @property
    def present(self) -> torch.Tensor:
        """Mask of real tokens, (batch, time)."""
        return self.item >= 0


def token_features(
    timestamp: npt.NDArray[np.int64], session: npt.NDArray[np.int32], starts: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Return (log gap, new session) of events laid end to end; `starts` marks the first event of each history."""
    gap = np.diff(timestamp, prepend=timestamp[:1]).astype(np.float32) / 3600.0
    new_session = np.ones(len(timestamp), np.float32)
    new_session[1:] = session[1:] != session[:-1]
    gap[starts] = 0.0
    new_session[starts] = 1.0
    return np.log1p(np.maximum(gap, 0.0)), new_session


def encode_states(histories: Sequence[History], max_events: int) -> StateBatch:
    """Return the states after the last event of each history."""
    kept = [history.last(max_events) for history in histories]
    lengths = np.array([len(history) for history in kept])
    time = max(1, int(lengths.max(initial=0)))
    rows = np.repeat(np.arange(len(kept)), lengths)
    ends = np.cumsum(lengths)
    columns = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths) + np.repeat(time - lengths, lengths)
    starts = np.zeros(len(rows), bool)
    starts[(ends - lengths)[lengths > 0]] = True

    def laid(parts: list[npt.NDArray[np.generic]], dtype: type, fill: float) -> torch.Tensor:
        padded = np.full((len(kept), time), fill, dtype)
        padded[rows, columns] = np.concatenate(parts) if parts else 0
        return torch.from_numpy(padded)

    if len(rows):
        log_gap, new_session = token_features(
            np.concatenate([h.timestamp for h in kept]), np.concatenate([h.session for h in kept]), starts
        )
    else:
        log_gap = new_session = np.empty(0, np.float32)
    return StateBatch(
        item=laid([h.item for h in kept], np.int64, -1),
        event_type=laid([h.event_type for h in kept], np.int64, 0),
        reward=laid([h.reward for h in kept], np.float32, 0.0),
        log_gap=laid([log_gap], np.float32, 0.0),
        new_session=laid([new_session], np.float32, 0.0),
        attributes=torch.from_numpy(np.stack([h.attributes for h in kept]).astype(np.int64)),
    )
