"""The engine for many replicas: PostgreSQL through psycopg, with timeouts on everything."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from recsys.errors import UserError
from serving.backend import Row
from serving.migrating import migrate
from serving.problems import StoreUnavailable
from serving.statements import Statement, compile_statements

_SCHEMES = {"postgresql", "postgres", "postgresql+psycopg"}
_CATALOGUE_LOCK = 7_236_514_902
_SETUP_TIMEOUT_S = 60


class PostgresBackend:
    """A pool of connections to read with; the writer thread has one of its own."""

    failures: tuple[type[Exception], ...] = (
        psycopg.OperationalError,
        psycopg.InterfaceError,
        psycopg.InternalError,
    )
    refusals: tuple[type[Exception], ...] = (psycopg.IntegrityError, psycopg.DataError)

    def __init__(self, url: str, timeout_s: float, readers: int) -> None:
        self.statements = compile_statements("postgresql")
        self._address = address_of(url)
        self._timeout_s = timeout_s
        self._settings: dict[str, Any] = {
            "autocommit": True,
            "connect_timeout": max(1, round(timeout_s)),
            "tcp_user_timeout": round(timeout_s * 1000),
            "options": f"-c statement_timeout={round(timeout_s * 1000)} -c lock_timeout={round(timeout_s * 1000)}",
        }
        self._readers = readers
        self._pool: AsyncConnectionPool[Any] | None = None
        self._synced: bool | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection for the writer."""
        self._synced = None
        return psycopg.connect(self._address, **self._settings)

    def begin(self, connection: psycopg.Connection[Any], *, synced: bool) -> None:
        """Begin, after setting what a commit waits for."""
        if synced != self._synced:
            connection.execute(f"SET synchronous_commit = {'on' if synced else 'off'}")
            self._synced = synced
        connection.execute("BEGIN")

    def commit(self, connection: psycopg.Connection[Any]) -> None:
        """Commit."""
        connection.execute("COMMIT")

    def rollback(self, connection: psycopg.Connection[Any]) -> None:
        """Leave the transaction, if the connection still lives."""
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")

    def insert_events(
        self, connection: psycopg.Connection[Any], batches: Sequence[Sequence[Row]]
    ) -> list[int]:
        """Insert all batches with one statement; an id belongs to the first batch that holds it."""
        rows = [row for batch in batches for row in batch]
        if not rows:
            return [0] * len(batches)
        sql = f"{self.statements.insert_events.sql} RETURNING event_id"
        new = {row[0] for row in connection.execute(sql, _columns(rows))}
        counts = []
        for batch in batches:
            mine = {row[0] for row in batch} & new
            new -= mine
            counts.append(len(mine))
        return counts

    def insert_lines(self, connection: psycopg.Connection[Any], rows: Sequence[Row]) -> None:
        """Insert rows with one statement."""
        connection.execute(self.statements.insert_impressions.sql, _columns(rows))

    def lock_catalogue(self, connection: psycopg.Connection[Any]) -> None:
        """Wait for other transactions that number changes."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CATALOGUE_LOCK,))

    def scrub(self, connection: psycopg.Connection[Any]) -> None:
        """Do nothing: dead rows are PostgreSQL's to vacuum, and its write-ahead log is the operator's to expire."""

    def insert_lines_at_once(self, rows: Sequence[Row]) -> bool:
        """Leave it to the writer: the event loop does not wait for a network."""
        return False

    async def read(self, statement: Statement, values: Row) -> list[Row]:
        """Read over a pooled connection."""
        try:
            async with asyncio.timeout(self._timeout_s):
                async with (await self._opened()).connection(self._timeout_s) as connection:
                    cursor = await connection.execute(statement.sql, values)
                    rows: list[Row] = await cursor.fetchall()
                    return rows
        except (psycopg.Error, PoolTimeout, TimeoutError, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StoreUnavailable(f"the store cannot be read ({reason})") from error

    async def _opened(self) -> AsyncConnectionPool[Any]:
        if self._pool is None:  # a pool belongs to a loop, so the first read makes it
            self._pool = AsyncConnectionPool(
                self._address,
                kwargs=self._settings,
                min_size=1,
                max_size=self._readers,
                timeout=self._timeout_s,
                reconnect_timeout=self._timeout_s,
                check=None,
                open=False,
            )
            await self._pool.open(wait=False)
        return self._pool

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.close(timeout=1.0)


def prepare_postgres(url: str) -> None:
    """Bring the tables up to date.

    Raises UserError if the database cannot be reached, is of a later program, or the address is none.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            "RECSYS_DATABASE is no address; write it as postgresql://user@host:5432/name"
        ) from None
    if parsed.drivername not in _SCHEMES:
        raise UserError(
            f"RECSYS_DATABASE begins with {parsed.drivername!r}; must be postgresql:// (SQLite needs no address, its "
            "file is RECSYS_STORE)"
        )
    where = parsed.render_as_string(hide_password=True)
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"connect_timeout": 5, "options": f"-c lock_timeout={_SETUP_TIMEOUT_S * 1000}"},
    )
    try:
        with engine.begin() as connection:
            migrate(connection, where)
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise UserError(
            f"no store at {where}: {reason}; start PostgreSQL or correct RECSYS_DATABASE"
        ) from None
    finally:
        engine.dispose()


def address_of(url: str) -> str:
    """Return what libpq takes of an address that SQLAlchemy takes too."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
