"""Sessions of histories in time order: those that the log names, or those that a silence ends."""

import numpy as np

from recsys.logs.hashing import HashArray
from recsys.types import BoolArray, IntArray, LongArray

_PER_SECOND = 1_000_000


def begins_by_gap(times: LongArray, begins_history: BoolArray, gap_s: float) -> BoolArray:
    """Return which events begin a session: a history's first, and each after a silence longer than the gap.

    `times` (event,) in microseconds, ascending inside a history.
    """
    silence = np.diff(times, prepend=times[:1])
    begins: BoolArray = begins_history | (silence > gap_s * _PER_SECOND)
    return begins


def begins_by_name(session: HashArray, begins_history: BoolArray) -> BoolArray:
    """Return which events begin a session: a history's first, and each of another session than the last.

    Two sessions of one user that overlap in time therefore alternate in pieces, each a session of its own:
    time order comes first, and the ordinal never falls.
    """
    begins = begins_history.copy()
    begins[1:] |= session[1:] != session[:-1]
    return begins


def ordinals(begins: BoolArray, begins_history: BoolArray) -> IntArray:
    """Return each event's session, counted from 0 inside its history."""
    running = np.cumsum(begins)
    starts = np.flatnonzero(begins_history)
    lengths = np.diff(np.append(starts, len(begins)))
    return (running - np.repeat(running[starts], lengths)).astype(np.int32)
