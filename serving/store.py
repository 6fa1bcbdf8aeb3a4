"""The live store as the endpoint sees it: users' events, what is known of them, what was shown, what items changed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from recsys.live_catalogue import ItemChange as ItemChange
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
    """What the deletion of a user removed, and what a count of every table then found."""

    events: int
    impressions: int
    attributes: int
    remaining: Mapping[str, int]  # table -> rows of the user


@dataclass(frozen=True)
class Merged:
    """What moved from one user to another."""

    events: int
    impressions: int


Exported = Literal["events", "impressions", "users"]


class Store(Protocol):
    """What the endpoint asks of any store; each method raises StoreUnavailable if the store cannot answer."""

    async def append(self, events: Sequence[EventRow], received: Sequence[int] | None = None) -> int:
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
        """Return what is known of a user."""
        ...

    async def put_user(self, user: str, attributes: Mapping[str, str]) -> None:
        """Know a user by these attributes, instead of what was known."""
        ...

    async def merge(self, user: str, other: str) -> Merged:
        """Give everything of another user to a user, whose own attributes win."""
        ...

    async def record(self, line: Impression) -> None:
        """Keep an impression: soon, in order, and before any later event of this process."""
        ...

    async def impression(self, recommendation_id: str) -> Impression | None:
        """Return an impression."""
        ...

    async def forget(self, user: str) -> Forgotten:
        """Remove every trace of a user."""
        ...

    async def change_items(self, changes: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Keep changes of the catalogue; return the revision of the last."""
        ...

    async def item_changes(self, after: int, limit: int = 1_000) -> list[ItemChange]:
        """Return the changes after a revision, oldest first."""
        ...

    async def catalogue_revision(self) -> int:
        """Return the newest revision of the catalogue, 0 before any change."""
        ...

    async def fact(self, name: str) -> str | None:
        """Return what all replicas agree on under a name."""
        ...

    async def put_fact(self, name: str, value: str) -> None:
        """Agree on something."""
        ...

    def export(self, what: Exported, batch: int) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Yield batches of all rows of live_tables.EVENT_COLUMNS or IMPRESSION_COLUMNS, by id."""
        ...

    async def recent(self, after: str, limit: int) -> list[tuple[Any, ...]]:
        """Return rows of live_tables.IMPRESSION_COLUMNS after an id, the newest first."""
        ...

    async def overridden(self, recommendations: Sequence[str]) -> set[str]:
        """Return those of some lists of which a client said itself what was shown."""
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
