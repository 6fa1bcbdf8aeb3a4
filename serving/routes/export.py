"""GET /v1/export: the event table of everything that was served and done, for training and replay evaluation.

Impression rows have recommendation_id, position, propensity and policy_version; where the caller said what was shown,
its rows stand instead, with the propensities that the server computed.
"""

import io
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from recsys import columns as c
from recsys.logs.live_tables import NOBODY
from recsys.logs.schema import EVENTS, TIMESTAMP_TYPE
from serving.dependencies import CurrentService
from serving.event_log import Impression, from_row
from serving.problems import NotReady
from serving.schemas import errors
from serving.store import Store

router = APIRouter(tags=["export"])

BATCH = 2_000
# sessions and users may be unknown here; readers of the log cut sessions by a time gap
SCHEMA = pa.schema([field.with_nullable(True) for field in EVENTS])


@router.get(
    "/v1/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            },
            "description": "Rows of the event table (recsys/logs/schema.py)",
        },
        **errors(422),
    },
    summary="The event table",
)
async def export(
    service: CurrentService,
    form: Annotated[
        Literal["ndjson", "parquet"], Query(alias="format", description="One JSON object a row, or a file")
    ] = "ndjson",
) -> StreamingResponse:
    """Stream feedback and shown items; memory is bounded by a batch, whatever the size of the log."""
    if not await service.store.answers():
        raise NotReady(["the store"])
    batches = rows_of(service.store)
    if form == "parquet":
        return StreamingResponse(
            _parquet(batches),
            media_type="application/vnd.apache.parquet",
            headers={"Content-Disposition": 'attachment; filename="events.parquet"'},
        )
    return StreamingResponse(_lines(batches), media_type="application/x-ndjson")


async def rows_of(store: Store) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield batches of rows of the event table, times in microseconds."""
    async for events in store.export("events", BATCH):
        told = [dict(zip(EVENTS.names, row, strict=False)) for row in events]
        for row in told:  # shown, in the caller's own words
            if row[c.EVENT_TYPE] == c.IMPRESSION and row[c.PROPENSITY] is None and row[c.RECOMMENDATION_ID]:
                line = await store.impression(row[c.RECOMMENDATION_ID])
                if line is not None:
                    chances = dict(zip(line.item_ids, line.propensities, strict=True))
                    row[c.PROPENSITY] = chances.get(row[c.ITEM_ID])
                    row[c.POLICY_VERSION] = policy_version(line)
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
        }
        for position, (item, propensity) in enumerate(zip(line.item_ids, line.propensities, strict=True))
    ]


def policy_version(line: Impression) -> str:
    """Return what drew a list: the bundle and the policy."""
    return f"{line.model} {line.policy}"


async def _lines(batches: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    async for batch in batches:
        if batch:
            yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch)


async def _parquet(batches: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    out = _HandedOver()
    writer = pq.ParquetWriter(out, SCHEMA, compression="zstd")
    async for batch in batches:
        if batch:
            writer.write_batch(_record_batch(batch))
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


def _record_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    columns = []
    for field in SCHEMA:
        values = [row[field.name] for row in rows]
        if field.type == TIMESTAMP_TYPE:
            columns.append(pa.array(values, pa.int64()).cast(TIMESTAMP_TYPE))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
