"""Users and their events as the caller or the store knows them, and the codes that a history is made of."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
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


def session_ordinals(named: Sequence[str | None], times: LongArray, gap_minutes: float) -> IntArray:
    """Number sessions as the log does: a new one where the caller's session changes or, without one, after a pause."""
    changed = np.zeros(len(times), bool)
    changed[1:] = times[1:] - times[:-1] > gap_minutes * 60 * PER_SECOND
    if named.count(None) < len(named):
        for place, (previous, current) in enumerate(pairwise(named), 1):
            if previous is not None or current is not None:
                changed[place] = previous != current
    return np.cumsum(changed, dtype=np.int32)


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
