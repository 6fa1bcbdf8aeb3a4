"""The canonical tables: a folder with events.parquet (or events/*.parquet), items.parquet, users.parquet."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.datasets import sources
from recsys.datasets.adapter import EventBatch
from recsys.datasets.canonical import BAD_POSITION, BAD_TIME, canonical
from recsys.datasets.parsing import as_filled, as_number, as_position, as_time
from recsys.errors import UserError
from recsys.logs.schema import EVENTS
from recsys.types import BoolArray

_REQUIRED = tuple(field.name for field in EVENTS if not field.nullable)
_PIECE_ROWS = 500_000  # at least, unless a file ends
_TIMES = "write it as a timestamp, or read the log with format 'file' and a mapping"


class TablesAdapter:
    """Reads the three tables as they are."""

    merges_lines = False
    session_gap_s = None

    def __init__(self, root: Path, batch_rows: int, parts: Sequence[Path] | None = None) -> None:
        self._root = root
        self._batch_rows = batch_rows
        self._bare = parts is not None  # files of events without tables of items and users
        self.source = f"tables in {root}"
        if parts is not None:
            self.source = f"events in {', '.join(map(str, parts[:3]))}{' …' if len(parts) > 3 else ''}"
            self._parts = list(parts)
            self._check()
            return
        if not root.is_dir():
            raise UserError(
                f"no folder at {root}; format 'tables' reads a folder with events.parquet and items.parquet"
            )
        single = root / "events.parquet"
        self._parts = [single] if single.is_file() else sorted((root / "events").glob("*.parquet"))
        if not self._parts:
            raise UserError(
                f"{root} has neither events.parquet nor events/*.parquet; put the event table there"
            )
        self._check()

    def _check(self) -> None:
        for part in self._parts:
            schema = pq.read_schema(sources.require_file(part, "event table")).remove_metadata()
            sources.require_columns(
                schema.names, _REQUIRED, part, "add it, or read the log with format 'file'"
            )
            if not pa.types.is_timestamp(schema.field(c.TIMESTAMP).type):
                kind = schema.field(c.TIMESTAMP).type
                raise UserError(f"{part}: column {c.TIMESTAMP} is {kind}, must be a timestamp; {_TIMES}")
            for name in (c.VALUE, c.POSITION, c.PROPENSITY):
                kind = schema.field(name).type if name in schema.names else pa.float64()
                if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
                    raise UserError(f"{part}: column {name} is {kind}, must be a number; convert the column")

    def expected_rows(self) -> int:
        """Return the number of rows."""
        return sum(sources.expected_rows(part) for part in self._parts)

    def batches(self) -> Iterator[EventBatch]:
        """Stream the parts in the order of their names."""
        before = 0
        for part in self._parts:
            last = 0
            for batch in sources.stream(part, self._batch_rows, columns=EVENTS.names):
                last += batch.read
                events, refused = _events(batch)
                yield EventBatch(events, batch.rows + before, batch.table, batch.read, refused)
            before += last

    def pieces(self) -> int:
        """Return into how many pieces the event table can be read apart: groups of Parquet row groups."""
        return len(self._pieces)

    def piece(self, number: int) -> Iterator[EventBatch]:
        """Stream one piece, its rows numbered as in the whole."""
        before, part, groups = self._pieces[number]
        for batch in sources.stream_groups(part, self._batch_rows, EVENTS.names, groups):
            events, refused = _events(batch)
            yield EventBatch(events, batch.rows + before, batch.table, batch.read, refused)

    @cached_property
    def _pieces(self) -> list[tuple[int, Path, list[int]]]:
        found, before = [], 0
        for part in self._parts:
            groups, held, begin = [], 0, before
            sizes = sources.group_sizes(part)
            for group, rows in enumerate(sizes):
                groups.append(group)
                held += rows
                if held >= _PIECE_ROWS or group == len(sizes) - 1:
                    found.append((begin, part, groups))
                    groups, held, begin = [], 0, begin + held
            before = begin
        return found

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return some columns of every part, rows as `batches` streams them."""
        return pa.concat_tables([pq.read_table(part, columns=list(names)) for part in self._parts])

    def items(self) -> pa.Table | None:
        """Return items.parquet, if it is there."""
        return self._side_table("items.parquet", c.ITEM_ID)

    def users(self) -> pa.Table | None:
        """Return users.parquet, if it is there."""
        return self._side_table("users.parquet", c.USER_ID)

    def _side_table(self, name: str, key: str) -> pa.Table | None:
        path = self._root / name
        if self._bare or not path.is_file():
            return None
        sources.require_columns(sources.column_names(path), [key], path, "add it, or remove the file")
        return sources.read_all(path)


def _events(batch: sources.SourceBatch) -> tuple[pa.Table, dict[str, BoolArray]]:
    """Return a part's columns in canonical types, and the cells that do not fit them."""
    columns: dict[str, pa.Array] = {}
    refused: dict[str, BoolArray] = {}
    for name in batch.table.column_names:
        column = batch.table[name]
        if name == c.TIMESTAMP:
            columns[name], refused[BAD_TIME] = as_time(column)
        elif name == c.POSITION:
            columns[name], refused[BAD_POSITION] = as_position(column)
        elif EVENTS.field(name).type == pa.float64():
            columns[name], refused[f"unparsable {name}"] = as_number(column)
        else:
            columns[name] = as_filled(column)
    return canonical(columns, batch.table.num_rows), refused
