"""One event as the caller or the store knows it, and how a user's events fall into sessions."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from recsys.types import ExternalId, IntArray, LongArray

PER_SECOND: Final = 1_000_000  # times are counted in microseconds


class LoggedEvent(NamedTuple):
    """One event of a user as the caller or the store knows it."""

    item_id: ExternalId
    event_type: str
    value: float | None
    timestamp: float  # seconds, UTC
    session_id: str | None


def session_ordinals(events: Sequence[LoggedEvent], times: LongArray, gap_minutes: float) -> IntArray:
    """Number sessions as the log does: a new one where the caller's session changes or, without one, after a pause."""
    paused = np.diff(times, prepend=times[:1]) > gap_minutes * 60 * PER_SECOND
    named = [event.session_id for event in events]
    changed = [
        previous != current if previous is not None or current is not None else bool(pause)
        for previous, current, pause in zip(named, named[1:], paused[1:], strict=False)
    ]
    return np.cumsum(np.array([False, *changed])).astype(np.int32)
