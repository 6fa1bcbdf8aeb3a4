"""The live store as the endpoint sees it: users' events, what is known of them and the impressions shown to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from recsys.recommender import LoggedEvent
from serving.event_log import Impression


class EventRow(NamedTuple):
    """One event, in the order of live_tables.EVENT_COLUMNS without the last."""

    event_id: str
    user_id: str
    session_id: str | None
    timestamp_us: int
    item_id: str
    event_type: str
    value: float | None
    recommendation_id: str | None
    position: int | None
    propensity: float | None = None  # joined from the impression offline
    policy_version: str | None = None


@dataclass(frozen=True)
class Forgotten:
    """What the deletion of a user removed."""

    events: int
    impressions: int


class Store(Protocol):
    """What the endpoint asks of any store; each method raises StoreUnavailable if the store cannot answer."""

    async def append(self, events: Sequence[EventRow]) -> int:
        """Keep events, durably before returning; return how many were new (the first of an event_id wins)."""
        ...

    async def newest(self, user: str, limit: int, *, impressions: bool = False) -> list[LoggedEvent]:
        """Return a user's newest events, oldest first; equal times are in order of arrival.

        On request also the newest `limit` items that were shown to the user and got no response, among the others by
        time: those of a list by position, before a response of the same moment.
        """
        ...

    async def events(self, user: str, limit: int) -> list[EventRow]:
        """Return a user's newest events in full, newest first."""
        ...

    async def attributes(self, user: str) -> dict[str, str]:
        """Return what the imported history knew of a user; nothing for everybody else."""
        ...

    async def record(self, line: Impression) -> None:
        """Keep an impression so that a killed process does not lose it."""
        ...

    async def impression(self, recommendation_id: str) -> Impression | None:
        """Return an impression."""
        ...

    async def forget(self, user: str) -> Forgotten:
        """Remove every trace of a user."""
        ...

    async def answers(self) -> bool:
        """Tell whether the store can be read."""
        ...

    @property
    def pending(self) -> int:
        """Writes that wait."""
        ...

    async def close(self) -> None:
        """Finish the writes that wait, then close."""
        ...
