"""A store that may go away: what it cannot take waits in a file, durably, and follows when it is back.

The file is the embedded store itself, so whatever waits there is deduplicated by id, ordered and read like any event:
a user whose events wait is ranked by them. While anything waits, events of this machine go to the file first, so that
the first of an id stays the first. Carrying them over is idempotent: they are removed from the file once the store has
them, and the store knows their ids if that is cut short.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from recsys.recommender import LoggedEvent
from serving.event_log import Impression
from serving.forgotten import forgotten_at, mark_forgotten
from serving.problems import StoreUnavailable
from serving.sql_store import SqlStore
from serving.store import EventRow, Exported, Forgotten, ItemChange, Merged

log = logging.getLogger(__name__)

T = TypeVar("T")
_BATCH = 1_000
_PROBE_S = 0.5


class SpooledStore:
    """A database with a file for the time that it is away."""

    def __init__(self, database: SqlStore, file: SqlStore) -> None:
        self.database, self.file = database, file
        self._away_since: float | None = None
        self._waiting = True  # what a process before this one left behind
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Writes that wait for a commit."""
        return self.database.pending + self.file.pending

    @property
    def away(self) -> bool:
        """Whether the database is away."""
        return self._away_since is not None

    @property
    def lost_lines(self) -> int:
        """Impressions that neither took."""
        return self.database.lost_lines + self.file.lost_lines

    def start(self) -> None:
        """Begin to carry over what waits."""
        self._task = asyncio.create_task(self._carry())

    async def append(self, events: Sequence[EventRow], received: Sequence[int] | None = None) -> int:
        """Keep events in the database or, while it is away, in the file; durable either way."""
        if not (self.away or self._waiting):
            try:
                return await self.database.append(events, received)
            except StoreUnavailable as error:
                self._leave(error)
        kept = await self.file.append(events, received)
        self._waiting = True
        return kept

    async def newest(self, user: str, limit: int, *, impressions: bool = False) -> list[LoggedEvent]:
        """Return a user's events, those that wait among them; only those while the database is away."""
        waiting = await self.file.newest(user, limit) if self._waiting else []
        if self.away:
            if not waiting:
                raise StoreUnavailable("the database is away")
            return waiting
        try:
            known = await self.database.newest(user, limit, impressions=impressions)
        except StoreUnavailable as error:
            self._leave(error)
            if waiting:
                return waiting
            raise
        if not waiting:
            return known
        return sorted([*known, *waiting], key=lambda event: event.timestamp)[-limit:]

    async def record(self, line: Impression) -> None:
        """Keep a line where events go."""
        if self.away or self._waiting:
            self._waiting = True
            await self.file.record(line)
        else:
            await self.database.record(line)

    async def impression(self, recommendation_id: str) -> Impression | None:
        """Return a line from wherever it is."""
        if self._waiting and (line := await self.file.impression(recommendation_id)) is not None:
            return line
        return await self._asked(self.database.impression(recommendation_id))

    async def forget(self, user: str) -> Forgotten:
        """Remove a user from the database, from this machine's file and, once they are carried over, from others'.

        Raises StoreUnavailable while the database is away.
        """
        self._present()
        await self._asked(mark_forgotten(self.database, user))
        await self.file.forget(user)
        return await self._asked(self.database.forget(user))

    async def merge(self, user: str, other: str) -> Merged:
        """Move what is in the database; what waits is moved in the file first."""
        self._present()
        await self.file.merge(user, other)
        return await self._asked(self.database.merge(user, other))

    async def events(self, user: str, limit: int) -> list[EventRow]:
        """Return a user's events, those that wait first."""
        waiting = await self.file.events(user, limit) if self._waiting else []
        known = await self._asked(self.database.events(user, limit))
        return sorted([*waiting, *known], key=lambda event: -event.timestamp_us)[:limit]

    async def attributes(self, user: str) -> dict[str, str]:
        """Return what the database knows."""
        return await self._asked(self.database.attributes(user))

    async def put_user(self, user: str, attributes: Mapping[str, str]) -> None:
        """Tell the database."""
        await self._asked(self.database.put_user(user, attributes))

    async def change_items(self, changes: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Tell the database: all replicas number changes alike, so a file cannot."""
        return await self._asked(self.database.change_items(changes))

    async def item_changes(self, after: int, limit: int = 1_000) -> list[ItemChange]:
        """Ask the database."""
        return await self._asked(self.database.item_changes(after, limit))

    async def catalogue_revision(self) -> int:
        """Ask the database."""
        return await self._asked(self.database.catalogue_revision())

    async def fact(self, name: str) -> str | None:
        """Ask the database."""
        return await self._asked(self.database.fact(name))

    async def put_fact(self, name: str, value: str) -> None:
        """Tell the database."""
        await self._asked(self.database.put_fact(name, value))

    def export(self, what: Exported, batch: int) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Export what the database has."""
        self._present()
        return self.database.export(what, batch)

    async def recent(self, after: str, limit: int) -> list[tuple[Any, ...]]:
        """Ask the database."""
        return await self._asked(self.database.recent(after, limit))

    async def overridden(self, recommendations: Sequence[str]) -> set[str]:
        """Ask the database."""
        return await self._asked(self.database.overridden(recommendations))

    async def answers(self) -> bool:
        """Tell whether the database can be read; without it answers go on all the same."""
        return not self.away and await self.database.answers()

    async def close(self) -> None:
        """Carry over what can be carried now, then close both."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self.away:
            try:
                await self._carry_over()
            except StoreUnavailable as error:
                log.warning("what waits stays in the file: %s", error)
        await self.database.close()
        for line in self.database.take_lines():
            await self.file.record(line)
        await self.file.close()

    def _present(self) -> None:
        if self.away:
            raise StoreUnavailable("the database is away")

    async def _asked(self, question: Coroutine[Any, Any, T]) -> T:
        if self.away:
            question.close()
            raise StoreUnavailable("the database is away")
        try:
            return await question
        except StoreUnavailable as error:
            self._leave(error)
            raise

    def _leave(self, error: StoreUnavailable) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.error("the database is away, events wait in the file: %s", error)

    async def _carry(self) -> None:
        while True:
            try:
                if self.away and await self.database.answers():
                    assert self._away_since is not None  # noqa: S101
                    log.warning("the database is back after %.1f s", time.monotonic() - self._away_since)
                    self._away_since = None
                for line in self.database.take_lines() if self.away else ():
                    self._waiting = True
                    await self.file.record(line)
                if self._waiting and not self.away:
                    await self._carry_over()
            except StoreUnavailable as error:
                self._leave(error)
            except Exception:
                log.exception("what waits cannot be carried over")
            await asyncio.sleep(_PROBE_S)

    async def _carry_over(self) -> None:
        """Hand over everything in the order of its arrival, then remove it from the file."""
        carried = 0
        for line in self.database.take_lines():  # that the database did not take
            await self.file.record(line)
        while True:
            lines = [row async for batch in self._some("impressions") for row in batch]
            if lines:
                gone = await forgotten_at(self.database, [row[1] for row in lines])
                kept = [row for row in lines if row[3] > gone.get(row[1], -1)]
                if kept:
                    await self.database.keep_lines(kept)
                await self.file.drop(impressions=[row[0] for row in lines])
            rows = [row async for batch in self._some("events") for row in batch]
            if rows:
                gone = await forgotten_at(self.database, [row[1] for row in rows])
                kept = [row for row in rows if row[-1] // 1_000 > gone.get(row[1], -1)]
                kept.sort(key=lambda row: row[-1])
                if kept:
                    await self.database.append(
                        [EventRow(*row[:-1]) for row in kept], [row[-1] for row in kept]
                    )
                await self.file.drop(events=[row[0] for row in rows])
            carried += len(rows) + len(lines)
            if not rows and not lines:
                break
        if not self.file.pending:
            self._waiting = False
        if carried:
            log.warning("%d events and impressions that waited are in the database now", carried)

    async def _some(self, what: Exported) -> AsyncIterator[list[tuple[Any, ...]]]:
        async for batch in self.file.export(what, _BATCH):
            yield batch
            return
