"""GET /v1/export: what was served and done, for training and replay evaluation, as tables.

events        the event table. Impression rows have recommendation_id, position, propensity and policy_version; where
              the caller said what was shown, its rows stand instead, with the propensities that the server computed.
              The first row of a list has `request`: what was asked, without the events that were read. Feedback has
              `received_at`, nanoseconds.
item_changes  every change of the catalogue since the bundle
users         what is known of users
"""

import io
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from recsys import columns as c
from recsys.ask import told_of
from recsys.evaluation.replay.lines import line_text
from recsys.logs.live_tables import ATTRIBUTES, NOBODY, RECEIVED_AT
from recsys.logs.schema import EVENTS, TIMESTAMP_TYPE
from serving.dependencies import CurrentService
from serving.event_log import Impression, from_row
from serving.problems import NotReady
from serving.schemas import errors
from serving.store import Store

router = APIRouter(tags=["export"])

BATCH = 2_000
REQUEST = "request"
# sessions and users may be unknown here; readers of the log cut sessions by a time gap
SCHEMA = pa.schema(
    [field.with_nullable(True) for field in EVENTS]
    + [pa.field(RECEIVED_AT, pa.int64()), pa.field(REQUEST, pa.string())]
)
CHANGES = pa.schema([("revision", pa.int64()), (c.ITEM_ID, pa.string()), ("fields", pa.string())])
USERS = pa.schema([(c.USER_ID, pa.string()), (ATTRIBUTES, pa.string())])
Batches = AsyncIterator[list[dict[str, Any]]]


@router.get(
    "/v1/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            },
            "description": "Rows of the table, the event table's as in recsys/logs/schema.py",
        },
        **errors(422),
    },
    summary="Everything that was served and done",
)
async def export(
    service: CurrentService,
    form: Annotated[
        Literal["ndjson", "parquet"], Query(alias="format", description="One JSON object a row, or a file")
    ] = "ndjson",
    table: Annotated[
        Literal["events", "item_changes", "users"], Query(description="What `recsys evaluate --log` reads")
    ] = "events",
) -> StreamingResponse:
    """Stream a table; memory is bounded by a batch, whatever the size of the log."""
    if not await service.store.answers():
        raise NotReady(["the store"])
    read, schema = _TABLES[table]
    batches = read(service.store)
    if form == "parquet":
        return StreamingResponse(
            _parquet(batches, schema),
            media_type="application/vnd.apache.parquet",
            headers={"Content-Disposition": f'attachment; filename="{table}.parquet"'},
        )
    return StreamingResponse(_lines(batches), media_type="application/x-ndjson")


async def rows_of(store: Store) -> Batches:
    """Yield batches of rows of the event table, times in microseconds."""
    async for events in store.export("events", BATCH):
        told = [{**dict(zip(SCHEMA.names, row, strict=False)), REQUEST: None} for row in events]
        for row in told:  # shown, in the caller's own words
            if row[c.EVENT_TYPE] == c.IMPRESSION and row[c.PROPENSITY] is None and row[c.RECOMMENDATION_ID]:
                line = await store.impression(row[c.RECOMMENDATION_ID])
                if line is not None:
                    chances = dict(zip(line.item_ids, line.propensities, strict=True))
                    row[c.PROPENSITY] = chances.get(row[c.ITEM_ID])
                    row[c.POLICY_VERSION] = policy_version(line)
                    row[REQUEST] = request_text(line) if not row[c.POSITION] else None
            if row[c.EVENT_TYPE] == c.IMPRESSION:
                row[RECEIVED_AT] = None
        yield told
    async for lines in store.export("impressions", BATCH):
        overridden = await store.overridden([line[0] for line in lines])
        yield [row for line in lines if line[0] not in overridden for row in impression_rows(from_row(line))]


def impression_rows(line: Impression) -> list[dict[str, Any]]:
    """Return the rows of the event table that a line stands for."""
    return [
        {
            c.EVENT_ID: f"{line.recommendation_id}:{position}",
            c.USER_ID: line.ask.user if line.ask.user != NOBODY else None,
            c.SESSION_ID: line.ask.session,
            c.TIMESTAMP: line.timestamp_us,
            c.ITEM_ID: item,
            c.EVENT_TYPE: c.IMPRESSION,
            c.VALUE: None,
            c.RECOMMENDATION_ID: line.recommendation_id,
            c.POSITION: position,
            c.PROPENSITY: propensity,
            c.POLICY_VERSION: policy_version(line),
            RECEIVED_AT: None,
            REQUEST: None if position else request_text(line),
        }
        for position, (item, propensity) in enumerate(zip(line.item_ids, line.propensities, strict=True))
    ]


def request_text(line: Impression) -> str:
    """Return what a list depended on besides its bundle and its user's events, and what answered."""
    return line_text(
        told_of(line.ask, with_events=False),
        seed=line.ask.seed,
        served_by=line.served_by,
        candidates=line.candidates,
        with_events=False,
        inline=not line.events_kept,
    )


def policy_version(line: Impression) -> str:
    """Return what drew a list: the bundle and the policy."""
    return f"{line.model} {line.policy}"


async def item_changes_of(store: Store) -> Batches:
    """Yield batches of changes, by revision."""
    after = 0
    while changes := await store.item_changes(after, BATCH):
        yield [
            {
                "revision": change.revision,
                c.ITEM_ID: change.item_id,
                "fields": orjson.dumps(change.fields).decode(),
            }
            for change in changes
        ]
        after = changes[-1].revision


async def users_of(store: Store) -> Batches:
    """Yield batches of users with their attributes as JSON."""
    async for rows in store.export("users", BATCH):
        yield [dict(zip(USERS.names, row, strict=True)) for row in rows]


_TABLES: dict[str, tuple[Callable[[Store], Batches], pa.Schema]] = {
    "events": (rows_of, SCHEMA),
    "item_changes": (item_changes_of, CHANGES),
    "users": (users_of, USERS),
}


async def _lines(batches: Batches) -> AsyncIterator[bytes]:
    async for batch in batches:
        if batch:
            yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch)


async def _parquet(batches: Batches, schema: pa.Schema) -> AsyncIterator[bytes]:
    out = _HandedOver()
    writer = pq.ParquetWriter(out, schema, compression="zstd")
    async for batch in batches:
        if batch:
            writer.write_batch(_record_batch(batch, schema))
            yield out.take()
    writer.close()
    yield out.take()


class _HandedOver(io.RawIOBase):
    """A file that is only written to; what was taken is forgotten, positions count on."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        data = bytes(part)
        self._parts.append(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _record_batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if field.type == TIMESTAMP_TYPE:
            columns.append(pa.array(values, pa.int64()).cast(TIMESTAMP_TYPE))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
