"""The endpoint's own store as a log: feedback as it arrived, lists with the line that each was answered from.

The store is read in batches, once for each bucket of users, so that memory is bounded by rows_per_bucket whatever its
size. Its connection stays the caller's and must be open while the log is read.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import orjson
import pyarrow as pa

from recsys import columns as c
from recsys.ask import unpacked
from recsys.evaluation.replay.lines import line_text
from recsys.evaluation.replay.log import NEEDED, SCHEMA, EventSource
from recsys.live_catalogue import ItemChange
from recsys.logs.live_tables import (
    EVENTS_TABLE,
    IMPRESSIONS_TABLE,
    ITEM_CHANGES_TABLE,
    LOGGED_EVENTS_VIEW,
    RECEIVED_AT,
)

WITH_IDS: Final = pa.schema(
    [field.with_nullable(True) for field in (pa.field(c.EVENT_ID, pa.string()), *SCHEMA)]
)
_ROWS: Final = 50_000
_OWN: Final = tuple(name for name in NEEDED if name not in (RECEIVED_AT, "request"))
_IMPRESSION: Final = f"v.{c.EVENT_TYPE} = '{c.IMPRESSION}'"
# a list's line stands at its first item; what a client showed alone may have no position
_FIRST: Final = f"{_IMPRESSION} AND COALESCE(v.{c.POSITION}, 0) = 0"
_STATEMENT: Final = f"""
SELECT v.{c.EVENT_ID}, {", ".join(f"v.{name}" for name in _OWN)},
       CASE WHEN {_IMPRESSION} THEN NULL ELSE e.{RECEIVED_AT} END,
       CASE WHEN {_FIRST} THEN i.request END, i.seed, i.served_by, i.candidates
FROM {LOGGED_EVENTS_VIEW} AS v
LEFT JOIN {EVENTS_TABLE.name} AS e ON e.{c.EVENT_ID} = v.{c.EVENT_ID}
LEFT JOIN {IMPRESSIONS_TABLE.name} AS i ON {_FIRST} AND i.{c.RECOMMENDATION_ID} = v.{c.RECOMMENDATION_ID}
"""  # noqa: S608 - constants
_COUNTED: Final = (
    f"SELECT (SELECT COUNT(*) FROM {EVENTS_TABLE.name}), (SELECT COUNT(*) FROM {IMPRESSIONS_TABLE.name})"  # noqa: S608
)
_LIST: Final = 10  # items of a list, for a guess of the rows


class Connection(Protocol):
    """What replay needs of a database connection (PEP 249)."""

    def execute(self, statement: str, /) -> Any:
        """Run a statement and return a cursor."""
        ...


def from_store(
    connection: Connection, name: str = "the live store", rows_per_bucket: int = 2_000_000
) -> EventSource:
    """Return what the endpoint's store holds, read through a connection that is open meanwhile."""
    events, lists = connection.execute(_COUNTED).fetchone()
    rows = events + _LIST * lists

    def batches() -> Iterator[pa.Table]:
        return store_batches(connection)

    return EventSource(name, batches, max(1, -(-rows // rows_per_bucket)), changes_of(connection))


def store_batches(connection: Connection) -> Iterator[pa.Table]:
    """Yield what a store holds in the columns of a log, event ids first."""
    cursor = connection.execute(_STATEMENT)
    while found := cursor.fetchmany(_ROWS):
        yield _table(found)


def changes_of(connection: Connection) -> tuple[ItemChange, ...]:
    """Return every change of the catalogue, by revision."""
    statement = f"SELECT revision, {c.ITEM_ID}, fields FROM {ITEM_CHANGES_TABLE.name} ORDER BY revision"  # noqa: S608
    found = connection.execute(statement).fetchall()
    return tuple(ItemChange(revision, item, orjson.loads(fields)) for revision, item, fields in found)


def _table(rows: Sequence[Sequence[Any]]) -> pa.Table:
    width = 1 + len(_OWN)
    columns = list(zip(*rows, strict=True)) or [()] * (width + 5)
    request = [_request(*line) if line[0] else None for line in zip(*columns[width + 1 :], strict=True)]
    given = [*columns[: width + 1], request]
    arrays = [
        pa.array(list(values), pa.int64()).cast(field.type)
        if field.name == c.TIMESTAMP
        else pa.array(list(values), field.type)
        for values, field in zip(given, WITH_IDS, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=WITH_IDS)


def _request(blob: bytes, seed: int, served_by: str, candidates: int | None) -> str:
    told = unpacked(bytes(blob))
    inline = told["events"] is None  # what came along was not stored
    return line_text(
        told, seed=seed, served_by=served_by, candidates=candidates, with_events=True, inline=inline
    )
