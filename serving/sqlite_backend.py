"""The embedded engine: one SQLite file.

WAL mode: readers never wait for writers, and several processes may share one file. Accepted events commit with
synchronous=FULL, so that a 202 survives power loss; group commit shares the fsync. Impressions commit with
synchronous=NORMAL: a killed process loses none that is committed, and a power cut at most the newest ones, which nobody
was promised. As they need no fsync the event loop writes them itself, right after the answer has left, unless somebody
else is writing: waking a thread takes longer than the write.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from recsys.errors import UserError
from serving.backend import Row
from serving.migrating import migrate
from serving.problems import StoreUnavailable
from serving.statements import Statement, compile_statements

log = logging.getLogger(__name__)

CHECKPOINT_PAGES = (
    8_000  # of the write-ahead log (32 MB): copied back in few long strokes, so few commits wait
)
BY_THE_WRITER = 64  # every so many inserts one takes the writer's way, whose commits also copy the log back
SETUP_PATIENCE_S = 120  # another process may be creating the tables or importing a history


class SqliteBackend:
    """One file, with a connection to read, one to write and one for the event loop's own inserts."""

    failures: tuple[type[Exception], ...] = (sqlite3.OperationalError, sqlite3.DatabaseError)
    refusals: tuple[type[Exception], ...] = (sqlite3.IntegrityError, sqlite3.ProgrammingError)

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.statements = compile_statements("sqlite")
        self._path = path
        self._log = f"{path}-wal"
        self._busy_timeout_ms = int(busy_timeout_s * 1000)
        self._inserts = 0
        self._synced: bool | None = None
        self.reader = connect(path)
        self.reader.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")
        self.reader.execute("PRAGMA query_only = ON")
        self._prompt = connect(path)
        self._prompt.execute("PRAGMA synchronous = NORMAL")
        self._prompt.execute("PRAGMA wal_autocheckpoint = 0")
        self._prompt.execute("PRAGMA busy_timeout = 0")  # last: the settings before may have to wait

    def connect(self) -> sqlite3.Connection:
        """Return a connection that waits for locks and for the disk."""
        connection = connect(self._path)
        connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._synced = None
        return connection

    def begin(self, connection: sqlite3.Connection, *, synced: bool) -> None:
        """Begin, after setting what a commit waits for."""
        if synced != self._synced:
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced
        connection.execute("BEGIN IMMEDIATE")

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit; where the log has outgrown what is copied back in passing, copy all of it and begin it anew."""
        connection.execute("COMMIT")
        try:
            size = os.stat(self._log).st_size
        except OSError:
            return
        if size > 2 * CHECKPOINT_PAGES * 4_096:
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError:
                log.info("the write-ahead log could not be copied back yet: another process is busy with it")

    def rollback(self, connection: sqlite3.Connection) -> None:
        """Leave the transaction, if there is one."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def insert_events(self, connection: sqlite3.Connection, batches: Sequence[Sequence[Row]]) -> list[int]:
        """Insert one batch after the other."""
        sql = self.statements.insert_events.sql
        return [connection.executemany(sql, rows).rowcount for rows in batches]

    def insert_lines(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert rows."""
        connection.executemany(self.statements.insert_impressions.sql, rows)

    def lock_catalogue(self, connection: sqlite3.Connection) -> None:
        """Do nothing: there is one writer at a time."""

    def scrub(self, connection: sqlite3.Connection) -> None:
        """Empty the write-ahead log; freed pages are zeroed by secure_delete."""
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except (
            sqlite3.OperationalError
        ):  # the deletion itself is committed: it must not be reported as failed
            busy = 1
        if busy:
            log.warning(
                "another process reads the store: deleted rows stay in its write-ahead log until it is reused"
            )

    def insert_lines_at_once(self, rows: Sequence[Row]) -> bool:
        """Insert rows in one transaction, unless somebody else writes."""
        self._inserts += len(rows)
        if self._inserts >= BY_THE_WRITER:
            self._inserts = 0
            return False
        prompt = self._prompt
        try:
            prompt.execute("BEGIN IMMEDIATE")
            prompt.executemany(self.statements.insert_impressions.sql, rows)
            prompt.execute("COMMIT")
        except sqlite3.Error:  # locked, full or closed; the writer knows which
            with contextlib.suppress(sqlite3.Error):
                self.rollback(prompt)
            return False
        return True

    async def read(self, statement: Statement, values: Row) -> list[Row]:
        """Read a few neighbouring rows; microseconds, so the event loop does it itself."""
        try:
            return self.reader.execute(statement.sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be read ({error})") from error

    async def close(self) -> None:
        """Close what reads and what writes at once."""
        self.reader.close()
        self._prompt.close()


def prepare_sqlite(path: Path) -> None:
    """Make the file and bring its tables up to date; raises UserError if it is not a store, or of a later program."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _enter_wal(path)
        _migrate(path)
    except (OSError, sqlite3.Error, DBAPIError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise UserError(
            f"no store at {path}: {reason}; set RECSYS_STORE to a file that can be written"
        ) from None


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a file whose tables exist."""
    connection = sqlite3.connect(
        path, timeout=SETUP_PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA mmap_size = 268435456")
    return connection


def _migrate(path: Path) -> None:
    engine = create_engine(
        f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": SETUP_PATIENCE_S}
    )

    # several workers start at once: the first takes the lock for good, the others then find everything done
    @event.listens_for(engine, "connect")
    def by_hand(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            migrate(connection, str(path))
    finally:
        engine.dispose()


def _enter_wal(path: Path) -> None:
    # The switch into WAL takes an exclusive lock and does not wait for it as other statements do.
    connection = sqlite3.connect(path, timeout=SETUP_PATIENCE_S, isolation_level=None)
    deadline = time.monotonic() + SETUP_PATIENCE_S
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    finally:
        connection.close()
