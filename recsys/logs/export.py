"""Any log written as the three canonical tables, cleaned and deduplicated, for format "tables" to read."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.config import LogConfig
from recsys.datasets.parsing import flat
from recsys.datasets.registry import open_log
from recsys.logs.catalogue import item_table, named_items, user_table
from recsys.logs.coded import as_events
from recsys.logs.histories import sort_histories
from recsys.logs.intake import Progress, take_in
from recsys.logs.output import export_folder
from recsys.logs.quarantine import Quarantine
from recsys.logs.vocabulary import Vocabulary

_LEVEL = 19  # of zstd: written once, read often


@dataclass(frozen=True)
class ExportInfo:
    """What an export read and wrote."""

    source: str
    rows_read: int
    events: int
    items: int
    users: int
    quarantined: dict[str, int]
    removed_by_rule: dict[str, int]


def export_tables(log: LogConfig, out: Path, progress: Progress | None = None) -> ExportInfo:
    """Write events.parquet (or events/part-*.parquet of a large log), items.parquet and users.parquet.

    Every event type is kept. Sessions that only a silence ends are given names. Raises UserError as `prepare`
    does, and if the folder is the log itself.
    """
    adapter = open_log(log)
    export_folder(out, log.path)
    seen: list[pa.Array] = []
    with (
        tempfile.TemporaryDirectory(dir=out, prefix=".scratch-") as scratch,
        Quarantine(out / "quarantine.csv") as refused,
    ):
        items = item_table(adapter.items(), adapter.source)
        vocabulary = Vocabulary(None if items is None else flat(items[c.ITEM_ID]))
        intake = take_in(adapter, log, vocabulary, Vocabulary(), Path(scratch), refused, progress)
        rows = intake.events.rows
        for part, (table, left) in enumerate(intake.events.tables()):
            bucket = sort_histories(table, adapter.session_gap_s, 0, intake.impression)
            seen.append(bucket.users.drop_null())
            events = as_events(bucket.events, vocabulary.values, intake.event_types.values)
            events = events.sort_by(
                [(c.TIMESTAMP, "ascending"), (c.SESSION_ID, "ascending"), (c.EVENT_ID, "ascending")]
            )
            alone = part == 0 and left == 0
            path = out / "events.parquet" if alone else out / "events" / f"part-{part:05d}.parquet"
            path.parent.mkdir(exist_ok=True)
            _write(events, path)
            if progress:
                progress("writing", rows - left, rows)
        counts = dict(sorted(refused.counts.items()))
    if not refused.total:
        refused.path.unlink()
    if items is None:
        items = named_items(vocabulary.values).sort_by(c.ITEM_ID)
    users = user_table(adapter.users(), pa.concat_arrays(seen), adapter.source).sort_by(c.USER_ID)
    _write(items, out / "items.parquet")
    _write(users, out / "users.parquet")
    removed = dict(sorted(intake.removed.items()))
    return ExportInfo(adapter.source, intake.read, rows, items.num_rows, users.num_rows, counts, removed)


def _write(table: pa.Table, path: Path) -> None:
    """Write a table small: ids that grow along the file are stored as differences from the row before."""
    fronted = {name: "DELTA_BYTE_ARRAY" for name in (c.EVENT_ID,) if name in table.column_names}
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=[name for name in table.column_names if name not in fronted],
        column_encoding=fronted or None,
        row_group_size=1 << 20,
        store_schema=True,
    )
