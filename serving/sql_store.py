"""The live store over one of two engines; what they share, which is nearly everything."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from recsys import columns as c
from recsys.logs.live_tables import OF_A_USER
from recsys.recommender import LoggedEvent
from serving.backend import Backend, Row
from serving.event_log import Impression, from_row, to_row
from serving.postgres_backend import PostgresBackend, prepare_postgres
from serving.problems import StoreUnavailable
from serving.sqlite_backend import SqliteBackend, prepare_sqlite
from serving.statements import Statement
from serving.store import EventRow, Exported, Forgotten, ItemChange, Merged
from serving.writer import GroupCommitWriter

log = logging.getLogger(__name__)

_RETRY_S = 0.5  # before lines that could not be written are tried again


class SqlStore:
    """Make one with open_sqlite_store or open_postgres_store."""

    def __init__(self, backend: Backend, *, max_pending: int, synced: bool) -> None:
        self.backend = backend
        self._commits = GroupCommitWriter(backend, max_pending)
        self._synced = synced
        self._last_received = 0
        self._lines: deque[Impression] = deque()
        self._max_lines = max_pending
        self._flush_planned = False
        self._flushing: set[asyncio.Future[Any]] = set()
        self.lost_lines = 0

    @property
    def pending(self) -> int:
        """Writes that wait."""
        return self._commits.pending + len(self._lines)

    def start(self) -> None:
        """Start the writer thread."""
        self._commits.start()

    async def append(self, events: Sequence[EventRow], received: Sequence[int] | None = None) -> int:
        """Insert events in one transaction, after the lines that were served before them."""
        if not events:
            return 0
        self._flush()
        moments = received if received is not None else self._received(len(events))
        rows = [(*event, moment) for event, moment in zip(events, moments, strict=True)]
        return await self._commits.append(rows, synced=self._synced)

    async def newest(self, user: str, limit: int, *, impressions: bool = False) -> list[LoggedEvent]:
        """Read one range of neighbouring rows."""
        rows = await self._read(self.backend.statements.newest, (user, limit))
        events = [
            LoggedEvent(item, kind, value, at / 1e6, session)
            for item, kind, value, at, session, _ in reversed(rows)
        ]
        if not impressions:
            return events
        # a response comes after what it answers, so those of the newest impressions are among the newest events
        answered = {(row[-1], row[0]) for row in rows if row[-1] is not None}
        shown = await self._shown(user, limit, answered)
        return sorted([*shown, *events], key=lambda event: event.timestamp)

    async def events(self, user: str, limit: int) -> list[EventRow]:
        """Read the same range, all columns."""
        rows = await self._read(self.backend.statements.events, (user, limit))
        return [EventRow(*row) for row in rows]

    async def attributes(self, user: str) -> dict[str, str]:
        """Read one row by its key."""
        rows = await self._read(self.backend.statements.attributes, (user,))
        known: dict[str, str] = orjson.loads(rows[0][0]) if rows else {}
        return known

    async def put_user(self, user: str, attributes: Mapping[str, str]) -> None:
        """Write one row by its key."""
        await self._write(self.backend.statements.put_user, (user, orjson.dumps(attributes).decode()))

    async def merge(self, user: str, other: str) -> Merged:
        """Move rows in one transaction."""
        self._flush()
        statements = self.backend.statements

        def move(connection: Any) -> Merged:
            moved = [
                connection.execute(statement.sql, (user, other)).rowcount
                for statement in (statements.move_events, statements.move_impressions)
            ]
            theirs = connection.execute(statements.attributes.sql, (other,)).fetchone()
            if theirs is not None:
                mine = connection.execute(statements.attributes.sql, (user,)).fetchone()
                merged = {**orjson.loads(theirs[0]), **(orjson.loads(mine[0]) if mine else {})}
                connection.execute(statements.put_user.sql, (user, orjson.dumps(merged).decode()))
                connection.execute(statements.forget[-1].sql, (other,))
            return Merged(*moved)

        return await self._commits.submit(move, synced=True, scrub=True)

    async def record(self, line: Impression) -> None:
        """Put a line where the next turn of the loop writes it: the answer does not wait for it."""
        if len(self._lines) >= self._max_lines:
            self._lines.popleft()
            self.lost_lines += 1
        self._lines.append(line)
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def impression(self, recommendation_id: str) -> Impression | None:
        """Read one line by its key."""
        await self.settled()
        rows = await self._read(self.backend.statements.impression, (recommendation_id,))
        return from_row(rows[0]) if rows else None

    async def forget(self, user: str) -> Forgotten:
        """Delete a user's rows in one transaction, then count what is left."""
        self._flush()
        statements = self.backend.statements

        def delete(connection: Any) -> list[int]:
            return [connection.execute(statement.sql, (user,)).rowcount for statement in statements.forget]

        removed = await self._commits.submit(delete, synced=True, scrub=True)
        left = [(await self._read(statement, (user,)))[0][0] for statement in statements.count]
        names = [str(table.name) for table in OF_A_USER]
        events, impressions, attributes = removed
        return Forgotten(events, impressions, attributes, dict(zip(names, left, strict=True)))

    async def change_items(self, changes: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Number changes and insert them in one transaction."""
        backend, now = self.backend, time.time_ns() // 1_000
        statements = backend.statements
        encoded = [(item_id, now, orjson.dumps(fields).decode()) for item_id, fields in changes]

        def insert(connection: Any) -> int:
            backend.lock_catalogue(connection)
            last = connection.execute(statements.revision.sql).fetchone()[0] or 0
            rows = [(last + 1 + place, *row) for place, row in enumerate(encoded)]
            connection.cursor().executemany(statements.insert_change.sql, rows)
            return int(last) + len(rows)

        return await self._commits.submit(insert, synced=True)

    async def item_changes(self, after: int, limit: int = 1_000) -> list[ItemChange]:
        """Read a range by its key."""
        rows = await self._read(self.backend.statements.changes_since, (after, limit))
        return [ItemChange(revision, item_id, orjson.loads(fields)) for revision, item_id, fields in rows]

    async def catalogue_revision(self) -> int:
        """Read the end of an index."""
        return (await self._read(self.backend.statements.revision, ()))[0][0] or 0

    async def fact(self, name: str) -> str | None:
        """Read one row by its key."""
        rows = await self._read(self.backend.statements.fact, (name,))
        return rows[0][0] if rows else None

    async def put_fact(self, name: str, value: str, *, anew: bool = True) -> None:
        """Write one row by its key; unless anew, what is there already stays."""
        statements = self.backend.statements
        await self._write(statements.put_fact if anew else statements.keep_fact, (name, value))

    async def drop_facts(self, prefix: str, before: int) -> None:
        """Remove the facts of a kind whose value, a number, is smaller than another."""
        await self._write(self.backend.statements.drop_facts, (f"{prefix}%", before))

    async def _write(self, statement: Statement, values: Row) -> None:
        sql = statement.sql
        await self._commits.submit(lambda connection: connection.execute(sql, values) and None, synced=True)

    async def export(self, what: Exported, batch: int) -> AsyncIterator[list[Row]]:
        """Read by ranges of ids, so that neither side holds more than a batch."""
        await self.settled()
        statement, after = getattr(self.backend.statements, f"exported_{what}"), ""
        while rows := await self._read(statement, (after, batch)):
            yield rows
            after = rows[-1][0]

    async def recent(self, after: str, limit: int) -> list[Row]:
        """Read the end of an index."""
        return await self._read(self.backend.statements.recent_impressions, (after, limit))

    async def overridden(self, recommendations: Sequence[str]) -> set[str]:
        """Ask the partial index, in one read."""
        if not recommendations:
            return set()
        ids, statement = set(recommendations), self.backend.statements.overridden
        return {row[0] for row in await self._read(statement, (min(ids), max(ids)))} & ids

    async def drop(self, events: Sequence[str] = (), impressions: Sequence[str] = ()) -> None:
        """Remove rows that have been carried elsewhere."""
        statements = self.backend.statements

        def delete(connection: Any) -> None:
            cursor = connection.cursor()
            cursor.executemany(statements.drop_event.sql, [(key,) for key in events])
            cursor.executemany(statements.drop_impression.sql, [(key,) for key in impressions])

        await self._commits.submit(delete, synced=False, scrub=True)

    async def keep_lines(self, rows: Sequence[Row]) -> None:
        """Insert lines that have been carried from elsewhere."""
        await self._commits.submit(
            lambda connection: self.backend.insert_lines(connection, rows), synced=True
        )

    async def answers(self) -> bool:
        """Read one key."""
        try:
            await self._read(self.backend.statements.fact, ("",))
        except StoreUnavailable:
            return False
        return True

    async def settled(self) -> None:
        """Wait until every line so far is written, or has failed."""
        self._flush()
        if self._flushing:
            await asyncio.wait(self._flushing)

    async def close(self) -> None:
        """Drain the writer, then close what reads."""
        try:
            await self.settled()
        finally:
            await self._commits.close()
            await self.backend.close()
        if self._lines:
            log.error("%d impressions could not be written before the end", len(self._lines))

    def _flush(self) -> None:
        self._flush_planned = False
        if not self._lines:
            return
        lines = list(self._lines)
        self._lines.clear()
        rows = [to_row(line) for line in lines]
        if self.backend.insert_lines_at_once(rows):
            return
        try:
            written = self._commits.submit(
                lambda connection: self.backend.insert_lines(connection, rows), synced=False
            )
        except StoreUnavailable:
            self._put_back(lines)
            return
        self._flushing.add(written)
        written.add_done_callback(lambda future: self._flushed(future, lines))

    def _flushed(self, future: asyncio.Future[Any], lines: list[Impression]) -> None:
        self._flushing.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self._put_back(lines)

    def _put_back(self, lines: list[Impression]) -> None:
        """Keep lines for another try, the newest ones if there is no room for all."""
        room = max(0, self._max_lines - len(self._lines))
        self.lost_lines += max(0, len(lines) - room)
        self._lines.extendleft(reversed(lines[len(lines) - room :]))
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_later(_RETRY_S, self._flush)

    def take_lines(self) -> list[Impression]:
        """Hand over the lines that wait."""
        lines = list(self._lines)
        self._lines.clear()
        return lines

    async def _read(self, statement: Statement, values: Row) -> list[Row]:
        return await self.backend.read(statement, values)

    async def _shown(self, user: str, limit: int, answered: set[tuple[str, str]]) -> list[LoggedEvent]:
        """Return the newest items shown to a user that are not answered, oldest first."""
        await self.settled()
        statements = self.backend.statements
        told = await self._read(statements.shown, (user, limit))  # by imports, and by clients instead of ours
        shown = [
            LoggedEvent(item, kind, value, at / 1e6, session)
            for item, kind, value, at, session, recommendation in told
            if (recommendation, item) not in answered
        ]
        overridden = {row[-1] for row in told}
        logged: list[LoggedEvent] = []
        for recommendation, at, session, slate in await self._read(statements.slates, (user, limit)):
            if recommendation not in overridden:
                logged += [
                    LoggedEvent(item, c.IMPRESSION, None, at / 1e6, session)
                    for item, *_ in reversed(orjson.loads(slate))
                    if (recommendation, item) not in answered
                ]
            if len(logged) >= limit:
                break
        newest = sorted(logged + shown, key=lambda event: -event.timestamp)[:limit]
        return newest[::-1]

    def _received(self, count: int) -> range:
        first = max(self._last_received + 1, time.time_ns())
        self._last_received = first + count - 1
        return range(first, first + count)


def open_sqlite_store(path: Path, *, max_pending: int, busy_timeout_s: float, synced: bool) -> SqlStore:
    """Open a store, made if it is missing; raises UserError if the file is not a store of this version."""
    prepare_sqlite(path)
    store = SqlStore(SqliteBackend(path, busy_timeout_s), max_pending=max_pending, synced=synced)
    store.start()
    return store


def open_postgres_store(
    url: str, *, max_pending: int, timeout_s: float, synced: bool, readers: int = 4
) -> SqlStore:
    """Open a store in a database, its tables made if they are missing; raises UserError if that cannot be."""
    prepare_postgres(url)
    store = SqlStore(PostgresBackend(url, timeout_s, readers), max_pending=max_pending, synced=synced)
    store.start()
    return store
