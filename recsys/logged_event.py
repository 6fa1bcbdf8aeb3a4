"""Users and their events as the caller or the store knows them, and the codes that a history is made of."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from recsys import columns
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


class AttributeCodes:
    """Codes of what is known of a user, as `prepare` gives them: 0 = unknown."""

    def __init__(self, names: Sequence[str], values: Sequence[Sequence[str]]) -> None:
        self._names = tuple(names)
        self._code = [{value: code + 1 for code, value in enumerate(known)} for known in values]
        self._nothing = np.zeros(len(self._code), np.int32)

    def of(self, attributes: Mapping[str, str] | None) -> IntArray:
        """Return the code of every attribute, (attribute,)."""
        if not attributes:
            return self._nothing
        coded = [
            table.get(attributes[name], table.get(columns.OTHER, 0)) if name in attributes else 0
            for name, table in zip(self._names, self._code, strict=True)
        ]
        return np.array(coded, np.int32)
