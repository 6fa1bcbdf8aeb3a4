"""Warm users: their newest logged events and their attributes enter an empty store once, before the first request."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.live_tables import EVENT_COLUMNS, EVENTS_TABLE, FACTS_TABLE, RECEIVED_AT, USERS_TABLE
from recsys.logs.schema import EVENTS
from serving.sqlite_store import SETUP_PATIENCE_S, connect

HISTORY_FACT = "history"
USERS_FILE = "users.parquet"  # beside the history, as in a prepared log and in canonical tables
_MARKS = (FACTS_TABLE, EVENTS_TABLE)  # both are empty in a store that has seen neither import nor event
_BATCH_ROWS = 16_384
_COLUMNS = EVENTS.names
_INCOMING = f"CREATE TEMP TABLE incoming ({', '.join(_COLUMNS)})"
_TAKE = f"INSERT INTO incoming VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - constants
# Inserted in the order of the table's key, so that its tree is written once and packed.
_KEEP_NEWEST = f"""
INSERT INTO {EVENTS_TABLE} ({", ".join(EVENT_COLUMNS)})
SELECT {", ".join(_COLUMNS)}, ? + arrival AS {RECEIVED_AT} FROM (
  SELECT *, rowid AS arrival,
         row_number() OVER (
           PARTITION BY {c.USER_ID}, {c.EVENT_TYPE} = '{c.IMPRESSION}' ORDER BY {c.TIMESTAMP} DESC, rowid DESC
         ) AS age
  FROM incoming
) WHERE age <= ?
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
    store: Path, history: Path, per_user: int, users: Path | None = None, *, impressions: bool = False
) -> int:
    """Fill an empty store from events Parquet and remember it; return the events kept, 0 if it was not empty.

    For a bundle whose histories hold them, as many impressions without response are kept of each user besides.

    Attributes of users are read from `users` or, without it, from the users.parquet beside the history, if it is
    there.

    One transaction: a killed import leaves nothing behind and is done again by the next start. Memory is
    bounded by a batch of rows; sorting spills to SQLite's temporary files.
    Raises UserError if the history holds no events Parquet, or the users' file is not one of users.
    """
    connection = connect(store)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA busy_timeout = {SETUP_PATIENCE_S * 1000}")
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute("BEGIN IMMEDIATE")  # of several workers one imports, the others then find it done
        try:
            untouched = _untouched(connection)
            kept = _import(connection, history, per_user, users, impressions) if untouched else 0
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return kept
    finally:
        connection.close()


def _import(
    connection: sqlite3.Connection, history: Path, per_user: int, users: Path | None, impressions: bool
) -> int:
    connection.execute(_INCOMING)
    for part in _parts(history):
        connection.executemany(_TAKE, _rows(part, impressions))
    if impressions:
        connection.execute(_DROP_ANSWERED)
    kept = connection.execute(_KEEP_NEWEST, (time.time_ns(), per_user)).rowcount
    connection.execute("DROP TABLE temp.incoming")
    beside = history.parent / USERS_FILE
    if users is None and beside.is_file():
        users = beside
    if users is not None:
        connection.executemany(f"INSERT OR IGNORE INTO {USERS_TABLE} VALUES (?, ?)", _attributes(users))  # noqa: S608
    fact = orjson.dumps({"source": history.name, "events": kept, "per_user": per_user}).decode()
    connection.execute(f"INSERT INTO {FACTS_TABLE} VALUES (?, ?)", (HISTORY_FACT, fact))  # noqa: S608
    return kept


def _untouched(connection: sqlite3.Connection) -> bool:
    return all(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None for table in _MARKS)  # noqa: S608


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
