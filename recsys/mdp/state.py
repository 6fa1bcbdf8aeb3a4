"""Session -> state: the one function that offline training, evaluation and the live endpoint share.

A token of the state is (item, event type, reward, time gap, same session as the token before?). The newest
`max_events` events are kept; padding stands behind, so that column t of an encoder's output, one longer than the
tokens, is the state after t events.
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
    """Token columns of a batch of histories, padded behind; item -1 marks padding."""

    item: torch.Tensor  # (batch, time) int64
    event_type: torch.Tensor  # (batch, time) int64
    reward: torch.Tensor  # (batch, time) float32
    log_gap: torch.Tensor  # (batch, time) float32, log(1 + hours since the token before)
    new_session: torch.Tensor  # (batch, time) float32, 1 where a session starts
    attributes: torch.Tensor  # (batch, attribute) int64
    lengths: torch.Tensor  # (batch,) int64

    @property
    def present(self) -> torch.Tensor:
        """Mask of real tokens, (batch, time)."""
        return self.item >= 0


def between_tokens(
    timestamp: npt.NDArray[np.integer],
    session: npt.NDArray[np.integer],
    first: npt.NDArray[np.bool_] | slice,
) -> tuple[FloatArray, FloatArray]:
    """Return (log(1 + hours since the token before), 1 where a session starts), both (event,).

    `first` says which events begin a history.
    """
    gap_hours = np.empty(len(timestamp))
    gap_hours[1:] = timestamp[1:] - timestamp[:-1]
    gap_hours[first] = 0.0
    gap_hours /= 3600.0
    np.maximum(gap_hours, 0.0, out=gap_hours)
    changed = np.empty(len(session), np.float32)
    changed[1:] = session[1:] != session[:-1]
    changed[first] = 1.0
    return np.log1p(gap_hours).astype(np.float32), changed


def lay_tokens(
    item: npt.NDArray[np.integer],
    event_type: npt.NDArray[np.integer],
    reward: npt.NDArray[np.floating],
    timestamp: npt.NDArray[np.integer],
    session: npt.NDArray[np.integer],
    lengths: npt.NDArray[np.integer],
    attributes: npt.NDArray[np.integer],
) -> StateBatch:
    """Return the tokens of histories whose events, (event,), are given end to end; lengths (batch,)."""
    ends = np.cumsum(lengths)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.arange(len(item)) - np.repeat(ends - lengths, lengths)
    time = max(1, int(lengths.max(initial=0)))
    log_gap, new_session = between_tokens(timestamp, session, columns == 0)

    def laid(values: npt.NDArray[np.generic], dtype: type, fill: float) -> torch.Tensor:
        padded: npt.NDArray[np.generic] = np.full((len(lengths), time), fill, dtype)
        padded[rows, columns] = values
        return torch.from_numpy(padded)

    return StateBatch(
        item=laid(item, np.int64, -1),
        event_type=laid(event_type, np.int64, 0),
        reward=laid(reward, np.float32, 0.0),
        log_gap=laid(log_gap, np.float32, 0.0),
        new_session=laid(new_session, np.float32, 0.0),
        attributes=torch.from_numpy(np.ascontiguousarray(attributes, dtype=np.int64)),
        lengths=torch.from_numpy(np.ascontiguousarray(lengths, dtype=np.int64)),
    )


def encode_states(histories: Sequence[History], max_events: int) -> StateBatch:
    """Return the tokens of the newest `max_events` events of each history."""
    kept = [history.last(max_events) for history in histories]
    return lay_tokens(
        item=np.concatenate([history.item for history in kept]),
        event_type=np.concatenate([history.event_type for history in kept]),
        reward=np.concatenate([history.reward for history in kept]),
        timestamp=np.concatenate([history.timestamp for history in kept]),
        session=np.concatenate([history.session for history in kept]),
        lengths=np.array([len(history) for history in kept], dtype=np.int64),
        attributes=np.stack([history.attributes for history in kept]),
    )
