"""Warm users: their newest logged events and their attributes enter an empty store once, before the first request."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import orjson
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.live_tables import EVENT_COLUMNS, EVENTS_TABLE, FACTS_TABLE, RECEIVED_AT, USERS_TABLE
from recsys.logs.schema import EVENTS
from serving.postgres_backend import address_of, prepare_postgres
from serving.sqlite_backend import SETUP_PATIENCE_S, connect, prepare_sqlite

HISTORY_FACT = "history"
USERS_FILE = "users.parquet"  # beside the history, as in a prepared log and in canonical tables
_MARKS = (
    FACTS_TABLE.name,
    EVENTS_TABLE.name,
)  # both are empty in a store that has seen neither import nor event
_BATCH_ROWS = 16_384
_COLUMNS = EVENTS.names
# Inserted in the order of the table's key, so that its tree is written once and packed.
_KEEP_NEWEST = f"""
INSERT INTO {EVENTS_TABLE.name} ({", ".join(EVENT_COLUMNS)})
SELECT {", ".join(_COLUMNS)}, %s + arrival AS {RECEIVED_AT} FROM (
  SELECT *,
         row_number() OVER (
           PARTITION BY {c.USER_ID}, {c.EVENT_TYPE} = '{c.IMPRESSION}' ORDER BY {c.TIMESTAMP} DESC, arrival DESC
         ) AS age
  FROM incoming
) AS aged WHERE age <= %s
ORDER BY {c.USER_ID}, {c.TIMESTAMP}, arrival
ON CONFLICT ({c.EVENT_ID}) DO NOTHING
"""  # noqa: S608 - constants

_ANSWER = f"{c.USER_ID}, {c.RECOMMENDATION_ID}, {c.ITEM_ID}"
_DROP_ANSWERED = f"""
DELETE FROM incoming WHERE {c.EVENT_TYPE} = '{c.IMPRESSION}' AND ({_ANSWER}) IN (
  SELECT {_ANSWER} FROM incoming WHERE {c.EVENT_TYPE} <> '{c.IMPRESSION}' AND {c.RECOMMENDATION_ID} IS NOT NULL
)
"""  # noqa: S608 - constants


def import_history(
    store: Path | str, history: Path, per_user: int, users: Path | None = None, *, impressions: bool = False
) -> int:
    """Fill an empty store from events Parquet and remember it; return the events kept, 0 if it was not empty.

    The store is a file, or the address of a database. For a bundle whose histories hold them, as many impressions
    without response are kept of each user besides. Attributes of users are read from `users` or, without it, from the
    users.parquet beside the history, if it is there.

    One transaction: a killed import leaves nothing behind and is done again by the next start. Memory is
    bounded by a batch of rows; sorting spills to the engine's temporary files.
    Raises UserError if the history holds no events Parquet, or the users' file is not one of users.
    """
    target = _File(store) if isinstance(store, Path) else _Database(store)
    try:
        target.begin()  # of several workers one imports, the others then find it done
        try:
            untouched = all(
                target.run(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None  # noqa: S608
                for table in _MARKS
            )
            kept = _import(target, history, per_user, users, impressions) if untouched else 0
            target.run("COMMIT")
        except BaseException:
            target.run("ROLLBACK")
            raise
        return kept
    finally:
        target.close()


class _Target(Protocol):
    """A connection to the store of one engine."""

    def begin(self) -> None: ...
    def run(self, sql: str, values: tuple[object, ...] = ()) -> Any: ...
    def run_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None: ...
    def take(self, rows: Iterable[tuple[object, ...]]) -> None: ...
    def close(self) -> None: ...


class _File:
    """SQLite."""

    def __init__(self, path: Path) -> None:
        prepare_sqlite(path)
        self._connection = connect(path)

    def begin(self) -> None:
        for setting in (
            "synchronous = NORMAL",
            f"busy_timeout = {SETUP_PATIENCE_S * 1000}",
            "temp_store = FILE",
        ):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.execute("BEGIN IMMEDIATE")
        columns = ", ".join(_COLUMNS)
        self._connection.execute(f"CREATE TEMP TABLE incoming (arrival INTEGER PRIMARY KEY, {columns})")

    def run(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql.replace("%s", "?"), values)

    def run_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._connection.executemany(sql.replace("%s", "?"), rows)

    def take(self, rows: Iterable[tuple[object, ...]]) -> None:
        places = ", ".join("?" * len(_COLUMNS))
        self._connection.executemany(
            f"INSERT INTO incoming ({', '.join(_COLUMNS)}) VALUES ({places})",  # noqa: S608 - constants
            rows,
        )

    def close(self) -> None:
        self._connection.close()


class _Database:
    """PostgreSQL."""

    def __init__(self, url: str) -> None:
        prepare_postgres(url)
        self._connection = psycopg.connect(address_of(url), autocommit=True)

    def begin(self) -> None:
        self.run("BEGIN")
        self.run(f"LOCK TABLE {FACTS_TABLE.name} IN SHARE ROW EXCLUSIVE MODE")
        columns = ", ".join(f"{name} {EVENTS_TABLE.c[name].type}" for name in _COLUMNS)
        self.run(f"CREATE TEMP TABLE incoming (arrival bigserial, {columns}) ON COMMIT DROP")

    def run(self, sql: str, values: tuple[object, ...] = ()) -> Any:
        return self._connection.execute(sql, values or None)

    def run_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._connection.cursor().executemany(sql, rows)

    def take(self, rows: Iterable[tuple[object, ...]]) -> None:
        with self._connection.cursor().copy(f"COPY incoming ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def close(self) -> None:
        self._connection.close()


def _import(target: _Target, history: Path, per_user: int, users: Path | None, impressions: bool) -> int:
    for part in _parts(history):
        target.take(_rows(part, impressions))
    if impressions:
        target.run(_DROP_ANSWERED)
    kept = int(target.run(_KEEP_NEWEST, (time.time_ns(), per_user)).rowcount)
    target.run("DROP TABLE incoming")
    beside = history.parent / USERS_FILE
    if users is None and beside.is_file():
        users = beside
    if users is not None:
        target.run_many(
            f"INSERT INTO {USERS_TABLE.name} VALUES (%s, %s) ON CONFLICT DO NOTHING",  # noqa: S608
            _attributes(users),
        )
    fact = orjson.dumps({"source": history.name, "events": kept, "per_user": per_user}).decode()
    target.run(f"INSERT INTO {FACTS_TABLE.name} VALUES (%s, %s)", (HISTORY_FACT, fact))  # noqa: S608
    return kept


def _parts(history: Path) -> list[Path]:
    parts = sorted(history.glob("part-*.parquet")) if history.is_dir() else [history]
    if not parts or not all(part.is_file() for part in parts):
        raise UserError(
            f"no events at {history}; set RECSYS_HISTORY to a Parquet file or a folder of part-*.parquet"
        )
    return parts


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not Parquet: {error}") from None


def _attributes(users: Path) -> Iterator[tuple[str, str]]:
    """Yield users of whom something is known with their text columns: those that training reads as attributes."""
    if not users.is_file():
        raise UserError(
            f"no users at {users}; set RECSYS_USERS to a Parquet file of a user table, or unset it"
        )
    with _opened(users) as source:
        schema = source.schema_arrow
        if c.USER_ID not in schema.names:
            raise UserError(
                f"{users} lacks {c.USER_ID}; set RECSYS_USERS to a user table as `recsys prepare` writes"
            )
        is_text = [pa.types.is_string(field.type) or pa.types.is_large_string(field.type) for field in schema]
        names = [name for name, text in zip(schema.names, is_text, strict=True) if text and name != c.USER_ID]
        for batch in source.iter_batches(_BATCH_ROWS, columns=[c.USER_ID, *names]) if names else ():
            ids = batch.column(c.USER_ID).cast(pa.string()).to_pylist()
            for user, known in zip(ids, batch.select(names).to_pylist(), strict=True):
                given = {name: value for name, value in known.items() if value is not None}
                if user is not None and given:
                    yield user, orjson.dumps(given).decode()


def _rows(part: Path, impressions: bool) -> Iterator[tuple[object, ...]]:
    with _opened(part) as source:
        present = set(source.schema_arrow.names)
        missing = [field.name for field in EVENTS if not field.nullable and field.name not in present]
        if c.USER_ID not in present or missing:
            absent = ", ".join(missing or [c.USER_ID])
            raise UserError(f"{part} lacks {absent}; write it with `recsys prepare`")
        for batch in source.iter_batches(_BATCH_ROWS, columns=[name for name in _COLUMNS if name in present]):
            kept = batch.column(c.USER_ID).is_valid()  # an anonymous session has no user to warm
            if not impressions:
                kept = pc.and_(kept, pc.not_equal(batch.column(c.EVENT_TYPE).cast(pa.string()), c.IMPRESSION))
            known = batch.filter(kept)
            yield from zip(*(_values(known, field) for field in EVENTS), strict=True)


def _values(batch: pa.RecordBatch, field: pa.Field) -> list[object]:
    if field.name not in batch.schema.names:
        return [None] * len(batch)
    column = batch.column(field.name).cast(field.type)
    if field.name == c.TIMESTAMP:
        column = column.cast(pa.int64())
    values: list[object] = column.to_pylist()
    return values
