"""One reading of what an endpoint has logged into a folder, from its store or an export, for a round of the loop."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.errors import UserError
from recsys.evaluation.replay.live_log import WITH_IDS, Connection, changes_of, store_batches
from recsys.evaluation.replay.log import CHANGES_FILE, read_changes
from recsys.live_catalogue import ItemChange
from recsys.logs.live_log import USERS_FILE, LiveLog, write_live_log
from recsys.logs.live_tables import ATTRIBUTES, USERS_TABLE

_BATCH_ROWS: Final = 65_536
_NEEDED: Final = (
    c.EVENT_ID,
    c.USER_ID,
    c.TIMESTAMP,
    c.ITEM_ID,
    c.EVENT_TYPE,
    c.RECOMMENDATION_ID,
    c.PROPENSITY,
)


def read_store(connection: Connection, folder: Path, session_gap_minutes: float) -> LiveLog:
    """Write what a store holds into a fresh folder."""
    told = connection.execute(f"SELECT {c.USER_ID}, {ATTRIBUTES} FROM {USERS_TABLE.name}").fetchall()  # noqa: S608
    attributes = {
        user: {name: str(value) for name, value in json.loads(text).items() if value is not None}
        for user, text in told
    }
    changes = changes_of(connection)
    return _written(store_batches(connection), folder, session_gap_minutes, attributes, changes)


def read_export(path: Path, folder: Path, session_gap_minutes: float) -> LiveLog:
    """Write an export (a Parquet file, or a folder of them with users.parquet beside it) into a fresh folder.

    Raises UserError if there is nothing to read or a column is missing.
    """
    inside = next((path / name for name in ("events", "events.parquet") if (path / name).exists()), path)
    if not inside.exists():
        raise UserError(f"no log at {path}; give exported Parquet, or --store the endpoint's own")
    try:
        dataset = ds.dataset(inside, format="parquet")
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is no Parquet log ({reason}); export it again") from None
    if missing := [name for name in _NEEDED if name not in dataset.schema.names]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; export it with GET /v1/export")
    present = [name for name in WITH_IDS.names if name in dataset.schema.names]

    def batches() -> Iterator[pa.Table]:
        for batch in dataset.to_batches(columns=present, batch_size=_BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            for name in WITH_IDS.names:
                if name not in present:
                    table = table.append_column(name, pa.nulls(len(table), WITH_IDS.field(name).type))
            yield table.select(WITH_IDS.names).cast(WITH_IDS)

    beside = path / USERS_FILE if path.is_dir() else path.with_name(USERS_FILE)
    attributes: dict[str, dict[str, str]] = {}
    for row in pq.read_table(beside).to_pylist() if beside.is_file() else ():
        user = str(row.pop(c.USER_ID))
        attributes[user] = {name: str(value) for name, value in row.items() if value is not None}
    return _written(batches(), folder, session_gap_minutes, attributes, read_changes(path))


def _written(
    batches: Iterator[pa.Table],
    folder: Path,
    session_gap_minutes: float,
    attributes: dict[str, dict[str, str]],
    changes: tuple[ItemChange, ...],
) -> LiveLog:
    folder.mkdir(parents=True, exist_ok=True)
    if changes:
        columns = {
            "revision": pa.array([change.revision for change in changes], pa.int64()),
            c.ITEM_ID: pa.array([change.item_id for change in changes], pa.string()),
            "fields": pa.array([json.dumps(change.fields) for change in changes], pa.string()),
        }
        pq.write_table(pa.table(columns), folder / CHANGES_FILE)
    items = {change.item_id: change.fields for change in changes}  # the newest of each
    return write_live_log(batches, folder, session_gap_minutes, attributes, items)
