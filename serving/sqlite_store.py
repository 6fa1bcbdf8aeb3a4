"""The embedded store: one SQLite file.

SQLite in WAL mode: readers never wait for writers, and several processes may share one file. Accepted
events commit with synchronous=FULL, so that a 202 survives power loss; group commit shares the fsync.
Impressions commit with synchronous=NORMAL: they are with the operating system before the answer leaves, so a
killed process loses none, and a power cut at most the newest ones, which nobody was promised. As they need no
fsync the event loop writes them itself, unless somebody else is writing: waking a thread takes longer than
the write.
"""

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.live_tables import (
    ATTRIBUTES,
    EVENT_COLUMNS,
    EVENTS_TABLE,
    IMPRESSION_COLUMNS,
    IMPRESSIONS_TABLE,
    LIVE_DDL,
    LIVE_VERSION,
    RECEIVED_AT,
    USERS_TABLE,
)
from recsys.recommender import LoggedEvent
from serving.event_log import Impression, from_row, to_row
from serving.problems import StoreUnavailable
from serving.store import EventRow, Forgotten
from serving.writer import GroupCommitWriter

CHECKPOINT_PAGES = (
    8_000  # of the write-ahead log (32 MB): copied back in few long strokes, so few commits wait
)
BY_THE_WRITER = (
    64  # every so many impressions one takes the writer's way, whose commits also copy the log back
)
SETUP_PATIENCE_S = 120  # another process may be creating the tables or importing a history

_INSERT_EVENT = (
    f"INSERT INTO {EVENTS_TABLE} ({', '.join(EVENT_COLUMNS)}) "  # noqa: S608 - constants
    f"VALUES ({', '.join('?' * len(EVENT_COLUMNS))}) ON CONFLICT ({c.EVENT_ID}) DO NOTHING"
)
_INSERT_IMPRESSION = (
    f"INSERT INTO {IMPRESSIONS_TABLE} ({', '.join(IMPRESSION_COLUMNS)}) "  # noqa: S608 - constants
    f"VALUES ({', '.join('?' * len(IMPRESSION_COLUMNS))})"
)
_OF_USER = f"FROM {EVENTS_TABLE} WHERE {c.USER_ID} = ?"
_NEWEST_FIRST = f"ORDER BY {c.TIMESTAMP} DESC, {RECEIVED_AT} DESC, {c.EVENT_ID} DESC LIMIT ?"
_LOGGED = (
    f"{c.ITEM_ID}, {c.EVENT_TYPE}, {c.VALUE}, {c.TIMESTAMP} / 1e6, {c.SESSION_ID}, {c.RECOMMENDATION_ID}"
)
_IS_SHOWN = f"{c.EVENT_TYPE} = '{c.IMPRESSION}'"  # of an imported history; the endpoint's own are lines
_SELECT_NEWEST = f"SELECT {_LOGGED} {_OF_USER} AND NOT {_IS_SHOWN} {_NEWEST_FIRST}"
_SELECT_SHOWN = f"SELECT {_LOGGED} {_OF_USER} AND {_IS_SHOWN} {_NEWEST_FIRST}"
_SELECT_SLATES = (
    f"SELECT {c.RECOMMENDATION_ID}, {c.TIMESTAMP} / 1e6, {c.SESSION_ID}, slate FROM {IMPRESSIONS_TABLE} "  # noqa: S608
    f"WHERE {c.USER_ID} = ? ORDER BY {c.TIMESTAMP} DESC, rowid DESC"
)
_SELECT_EVENTS = (
    f"SELECT {', '.join(EventRow._fields).replace('timestamp_us', c.TIMESTAMP)} {_OF_USER} {_NEWEST_FIRST}"
)
_SELECT_IMPRESSION = (
    f"SELECT {', '.join(IMPRESSION_COLUMNS)} FROM {IMPRESSIONS_TABLE} WHERE {c.RECOMMENDATION_ID} = ?"  # noqa: S608
)

_SELECT_ATTRIBUTES = f"SELECT {ATTRIBUTES} FROM {USERS_TABLE} WHERE {c.USER_ID} = ?"  # noqa: S608


class Connections(NamedTuple):
    """The connections of one process to its store."""

    reader: sqlite3.Connection
    writer: sqlite3.Connection  # of the writer thread; waits for locks and for the disk
    prompt: sqlite3.Connection  # of the event loop; writes at once or not at all


class SqliteStore:
    """The embedded store; make one with open_sqlite_store."""

    def __init__(self, connections: Connections, max_pending: int, synced: bool) -> None:
        self._connections = connections
        self._commits = GroupCommitWriter(connections.writer, max_pending)
        self._synced = synced
        self._last_received = 0
        self._recorded = 0

    @property
    def pending(self) -> int:
        """Writes that wait."""
        return self._commits.pending

    def start(self) -> None:
        """Start the writer thread."""
        self._commits.start()

    async def append(self, events: Sequence[EventRow]) -> int:
        """Insert events in one statement of one transaction."""
        rows = [
            (*event, received) for event, received in zip(events, self._received(len(events)), strict=True)
        ]

        def insert(connection: sqlite3.Connection) -> int:
            return connection.executemany(_INSERT_EVENT, rows).rowcount

        return await self._commits.submit(insert, synced=self._synced) if rows else 0

    async def newest(self, user: str, limit: int, *, impressions: bool = False) -> list[LoggedEvent]:
        """Read one range of the clustered table; a few microseconds, so the event loop does it itself."""
        rows = self._read(_SELECT_NEWEST, (user, limit))
        events = [LoggedEvent(*row[:-1]) for row in reversed(rows)]
        if not impressions:
            return events
        # a response comes after what it answers, so those of the newest impressions are among the newest events
        answered = {(row[-1], row[0]) for row in rows if row[-1] is not None}
        shown = self._shown(user, limit, answered)
        return sorted([*shown, *events], key=lambda event: event.timestamp)

    async def events(self, user: str, limit: int) -> list[EventRow]:
        """Read the same range, all columns."""
        return [EventRow(*row) for row in self._read(_SELECT_EVENTS, (user, limit))]

    async def attributes(self, user: str) -> dict[str, str]:
        """Read one row by its key."""
        rows = self._read(_SELECT_ATTRIBUTES, (user,))
        known: dict[str, str] = orjson.loads(rows[0][0]) if rows else {}
        return known

    async def record(self, line: Impression) -> None:
        """Insert a line at once or, while somebody else writes, through the writer thread."""
        values = to_row(line)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(_INSERT_IMPRESSION, values)

        if not self._inserted_at_once(values):
            await self._commits.submit(insert, synced=False)

    async def impression(self, recommendation_id: str) -> Impression | None:
        """Read one line by its key."""
        rows = self._read(_SELECT_IMPRESSION, (recommendation_id,))
        return from_row(rows[0]) if rows else None

    async def forget(self, user: str) -> Forgotten:
        """Delete a user's rows, overwrite them with zeros and empty the write-ahead log."""

        def delete(connection: sqlite3.Connection) -> Forgotten:
            removed = [
                connection.execute(f"DELETE FROM {table} WHERE {c.USER_ID} = ?", (user,)).rowcount  # noqa: S608
                for table in (EVENTS_TABLE, IMPRESSIONS_TABLE, USERS_TABLE)
            ]
            return Forgotten(*removed[:2])

        return await self._commits.submit(delete, synced=True, scrub=True)

    async def answers(self) -> bool:
        """Read one page."""
        try:
            self._read("SELECT 1 FROM sqlite_master LIMIT 1", ())
        except StoreUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Drain the writer, then close both connections."""
        await self._commits.close()
        for connection in self._connections:
            connection.close()

    def _inserted_at_once(self, values: tuple[object, ...]) -> bool:
        self._recorded += 1
        if self._recorded % BY_THE_WRITER == 0:
            return False
        try:
            self._connections.prompt.execute(_INSERT_IMPRESSION, values)
        except (
            sqlite3.OperationalError,
            sqlite3.ProgrammingError,
        ):  # locked or closed; the writer knows which
            return False
        return True

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connections.reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read ({error})") from error

    def _shown(self, user: str, limit: int, answered: set[tuple[str, str]]) -> list[LoggedEvent]:
        """Return the newest items shown to a user that are not answered, oldest first."""
        imported = self._read(_SELECT_SHOWN, (user, limit))
        shown = [LoggedEvent(*row[:-1]) for row in imported if (row[-1], row[0]) not in answered]
        logged: list[LoggedEvent] = []
        try:
            lines = self._connections.reader.execute(_SELECT_SLATES, (user,))
            for recommendation, timestamp, session, slate in lines:
                logged += [
                    LoggedEvent(item, c.IMPRESSION, None, timestamp, session)
                    for item, *_ in reversed(orjson.loads(slate))
                    if (recommendation, item) not in answered
                ]
                if len(logged) >= limit:
                    break
            lines.close()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read ({error})") from error
        newest = sorted(logged + shown, key=lambda event: -event.timestamp)[:limit]
        return newest[::-1]

    def _received(self, count: int) -> range:
        first = max(self._last_received + 1, time.time_ns())
        self._last_received = first + count - 1
        return range(first, first + count)


def open_sqlite_store(path: Path, *, max_pending: int, busy_timeout_s: float, synced: bool) -> SqliteStore:
    """Open a store, made if it is missing; raises UserError if the file is not a store of this version."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connections = Connections(*(connect(path) for _ in Connections._fields))
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"no store at {path}: {error}; set RECSYS_STORE to a file that can be written"
        ) from None
    for connection in connections:
        connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
    connections.reader.execute("PRAGMA query_only = ON")
    connections.prompt.execute("PRAGMA busy_timeout = 0")
    connections.prompt.execute("PRAGMA synchronous = NORMAL")
    connections.prompt.execute("PRAGMA wal_autocheckpoint = 0")
    connections.writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    store = SqliteStore(connections, max_pending, synced)
    store.start()
    return store


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a store whose tables exist; raises UserError if they are of a later version."""
    connection = sqlite3.connect(
        path, timeout=SETUP_PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    _enter_wal(connection)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA mmap_size = 268435456")
    connection.execute("BEGIN IMMEDIATE")  # several workers start at once
    with contextlib.closing(connection.execute("PRAGMA user_version")) as cursor:
        version = cursor.fetchone()[0]
    if version not in range(LIVE_VERSION + 1):
        connection.execute("ROLLBACK")
        raise UserError(
            f"{path} is a store of version {version}, this program reads up to {LIVE_VERSION}; name another store"
        )
    if version < LIVE_VERSION:  # every statement adds only what is missing
        for statement in LIVE_DDL:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {LIVE_VERSION}")
    connection.execute("COMMIT")
    return connection


def _enter_wal(connection: sqlite3.Connection) -> None:
    # The switch into WAL takes an exclusive lock and does not wait for it as other statements do.
    deadline = time.monotonic() + SETUP_PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
