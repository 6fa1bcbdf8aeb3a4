"""What each user had done by any moment: all that a policy is told of them when a request is replayed.

Where the log holds the endpoint's own line of a request, histories are those that it had: the events written in the
line, else those that had arrived by then, however they are dated. Elsewhere an event counts from its own time.
"""

import zlib
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from recsys import columns as c
from recsys.evaluation.replay.attribution import Attributed
from recsys.evaluation.replay.log import RECEIVED_AT, RequestTable
from recsys.evaluation.replay.policies import Request
from recsys.logged_event import PER_SECOND, LoggedEvent
from recsys.types import LongArray


class Past:
    """The users of a bucket."""

    def __init__(
        self,
        frame: pd.DataFrame,
        earned: Attributed,
        attributes: Mapping[str, Mapping[str, str]],
        history_events: int,
    ) -> None:
        self._attributes = attributes
        self._limit = history_events
        who = frame["who"].to_numpy(object)
        edges = np.flatnonzero(np.append(True, who[1:] != who[:-1])) if len(who) else np.empty(0, np.int64)
        self._range = {
            who[start]: (int(start), int(end))
            for start, end in zip(edges, np.append(edges[1:], len(who)), strict=True)
        }
        self._shown = (frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()
        self._time = frame["time"].to_numpy()
        received = frame[RECEIVED_AT].to_numpy(np.float64, na_value=np.nan) // 1_000  # from nanoseconds
        self._known = np.where(np.isnan(received), self._time, received).astype(np.int64)
        self._answered_at = earned.answered_at
        session = frame[c.SESSION_ID].to_numpy(object)
        value = frame[c.VALUE].to_numpy(np.float64, na_value=np.nan)
        self._events = [
            LoggedEvent(
                item, kind, None if np.isnan(number) else float(number), moment / PER_SECOND, name_of(of)
            )
            for item, kind, number, moment, of in zip(
                frame[c.ITEM_ID].to_numpy(object),
                frame[c.EVENT_TYPE].to_numpy(object),
                value,
                self._time.tolist(),
                session,
                strict=True,
            )
        ]
        self._feedback = np.flatnonzero(~self._shown)
        self._feedback_before = np.concatenate([[0], np.cumsum(~self._shown)])

    def request(self, requests: RequestTable, row: int, *, impressions: bool) -> Request:
        """Return what is known at a request: the newest events before it."""
        who, time, line = requests.who[row], int(requests.time[row]), requests.line[row]
        events = self._feedback_of(requests, row)
        if impressions:
            told = [] if line is None else [e for e in line.ask.events if e.event_type == c.IMPRESSION]
            # each kind up to the limit, as live
            events = sorted([*events, *(told or self._silent(who, time))], key=lambda event: event.timestamp)
        seed = zlib.crc32(requests.recommendation[row].encode())
        return Request(
            who,
            time / PER_SECOND,
            int(requests.length[row]),
            seed if line is None else line.ask.seed,
            events,
            self._attributes.get(who, {}) if line is None else line.ask.attributes,
            None if line is None else line.ask,
        )

    def known_before(self, requests: RequestTable) -> LongArray:
        """Return how many events of its user each request could use, (request,)."""
        counts = []
        for row, (who, time) in enumerate(zip(requests.who, requests.time.tolist(), strict=True)):
            if requests.line[row] is not None:
                counts.append(len(self._feedback_of(requests, row)))
                continue
            start, end = self._before(who, time)
            counts.append(int(self._feedback_before[end] - self._feedback_before[start]))
        return np.minimum(np.array(counts, np.int64), self._limit)

    def _feedback_of(self, requests: RequestTable, row: int) -> list[LoggedEvent]:
        who, time, line = requests.who[row], int(requests.time[row]), requests.line[row]
        if line is not None and line.events_kept:
            return [event for event in line.ask.events if event.event_type != c.IMPRESSION][-self._limit :]
        if line is None:
            start, end = self._before(who, time)
            rows = self._feedback[self._feedback_before[start] : self._feedback_before[end]]
        else:
            start, end = self._range[who]
            rows = self._feedback[self._feedback_before[start] : self._feedback_before[end]]
            rows = rows[self._known[rows] <= time]
        return [self._events[place] for place in rows[-self._limit :].tolist()]

    def _silent(self, who: str, time: int) -> list[LoggedEvent]:
        """Return what was shown before a moment and is not answered yet: an answer later on is not known."""
        start, end = self._before(who, time)
        past = np.arange(start, end)
        silent = past[self._shown[start:end] & (self._answered_at[start:end] >= time)]
        return [self._events[place] for place in silent[-self._limit :].tolist()]

    def _before(self, who: str, time: int) -> tuple[int, int]:
        """Return the rows [start, end) of a user that are earlier than a moment."""
        start, end = self._range[who]
        return start, start + bisect_left(self._time[start:end], time)


def name_of(session: Any) -> str | None:
    """Return a session's name as a text; None for missing ones, however they are written."""
    return None if session is None or session != session else str(session)
