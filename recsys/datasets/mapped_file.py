"""Any log in CSV, Parquet or JSON Lines (one file, or a folder of parts), read by a small mapping."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets import sources
from recsys.datasets.adapter import EventBatch
from recsys.datasets.canonical import BAD_TIME, NULLABLE, canonical, constant
from recsys.datasets.mapping import Mapping, SideTable, load_mapping
from recsys.datasets.parsing import as_filled, as_number, as_position, as_text, as_time, flat
from recsys.errors import UserError
from recsys.types import BoolArray

_SEPARATORS = (";", "\t", "|", ",")
_REMEDY = "name the right column in the mapping"


class MappedFileAdapter:
    """Reads what the mapping describes."""

    merges_lines = False

    def __init__(self, path: Path, mapping: Path | None, batch_rows: int) -> None:
        if mapping is None:
            raise UserError(
                "format 'file' needs a mapping; set [prepare.log] mapping to a TOML as docs/logs.md shows"
            )
        self._mapping: Mapping = load_mapping(mapping)
        self._beside = mapping.parent
        self._batch_rows = batch_rows
        self._parts = _parts(path)
        self._named = {
            key: name for key, name in self._mapping.columns.model_dump().items() if name is not None
        }
        self._style = sources.separated(self._parts[0], self._mapping.separator)
        for part in self._parts:
            needed = (
                [self._named[key] for key in (c.ITEM_ID, c.TIMESTAMP)]
                if sources.is_json(part)
                else self._named.values()
            )
            _require(sources.column_names(part, self._style), list(needed), part)
        self.source = str(path)

    @property
    def session_gap_s(self) -> float | None:
        """The mapping's gap, in seconds."""
        minutes = self._mapping.session_gap_minutes
        return None if minutes is None else 60.0 * minutes

    def expected_rows(self) -> int:
        """Return the number of rows, or a guess."""
        return sum(sources.expected_rows(part) for part in self._parts)

    def batches(self) -> Iterator[EventBatch]:
        """Stream the parts in the order of their names."""
        before = 0
        for part in self._parts:
            last = 0
            for batch in sources.stream(part, self._batch_rows, self._style, list(self._named.values())):
                last += batch.read
                yield self._events(batch, before)
            before += last

    def items(self) -> pa.Table | None:
        """Return the mapping's item table, if it names one."""
        table = self._mapping.items
        if table is None:
            return None
        columns = self._side_table(table, c.ITEM_ID, "items")
        if table.title is not None:
            columns[c.TITLE] = as_text(columns.pop(table.title))
        if table.categories is not None:
            categories = flat(columns.pop(table.categories))
            if not pa.types.is_list(categories.type):
                categories = pc.split_pattern(as_text(categories), table.category_separator)
            columns[c.CATEGORIES] = categories
        return pa.table(columns)

    def users(self) -> pa.Table | None:
        """Return the mapping's user table, if it names one."""
        table = self._mapping.users
        return None if table is None else pa.table(self._side_table(table, c.USER_ID, "users"))

    def _side_table(self, side: SideTable, key: str, section: str) -> dict[str, pa.Array]:
        path = self._beside / side.path
        table = sources.read_all(path, sources.separated(path, side.separator))
        needed = [name for name in (side.id, side.title, side.categories) if name is not None]
        _require(table.column_names, needed, path, f", under [{section}]")
        columns = {key: as_text(table[side.id])}
        for name in table.column_names:
            if name != side.id:
                columns[name] = _typed(table[name])
        return columns

    def _events(self, batch: sources.SourceBatch, before: int) -> EventBatch:
        table, rows = batch.table, batch.table.num_rows
        columns: dict[str, pa.Array] = {}
        refused: dict[str, BoolArray] = {}
        for key, name in self._named.items():
            column = table[name] if name in table.column_names else pa.nulls(rows, pa.string())
            if key == c.TIMESTAMP:
                time = self._mapping.time
                columns[key], refused[BAD_TIME] = as_time(column, time.format, time.unit)
            elif key == c.POSITION:
                columns[key], refused[f"unparsable {key}"] = as_position(column)
            elif NULLABLE.field(key).type == pa.float64():
                columns[key], refused[f"unparsable {key}"] = as_number(column)
            else:
                columns[key] = as_filled(column)
        columns[c.EVENT_TYPE] = self._event_types(columns.get(c.EVENT_TYPE), rows)
        if c.EVENT_ID not in columns:
            columns[c.EVENT_ID] = _made_up_ids(columns)
        return EventBatch(
            canonical(columns, rows),
            batch.rows + before,
            table,
            batch.read,
            refused,
            malformed=batch.malformed,
        )

    def _event_types(self, column: pa.Array | None, rows: int) -> pa.Array:
        if column is None:
            return constant(self._mapping.event_type or "", rows)
        theirs = pa.array(list(self._mapping.event_types), pa.string())
        ours = pa.array(list(self._mapping.event_types.values()), pa.string())
        return pc.coalesce(ours.take(pc.index_in(column, value_set=theirs)), column)


def _parts(path: Path) -> list[Path]:
    if path.is_dir():
        parts = sorted(part for part in path.iterdir() if part.name.lower().endswith(sources.SUFFIXES))
        kinds = sorted({part.suffix for part in parts})
        if len(kinds) != 1:
            found = ", ".join(kinds) or "no table"
            raise UserError(
                f"{path} holds {found}, must hold parts of one kind ({', '.join(sources.SUFFIXES)})"
            )
        return parts
    sources.require_file(path, "log")
    if not path.name.lower().endswith(sources.SUFFIXES):
        raise UserError(
            f"{path} has an unknown ending, must be one of {', '.join(sources.SUFFIXES)}; write it as one of them"
        )
    return [path]


def _require(names: list[str], needed: list[str], path: Path, place: str = "") -> None:
    """Raise UserError if a column is missing; one name with separators in it is a header that was not split."""
    unsplit = [mark for mark in _SEPARATORS if len(names) == 1 and mark in names[0]]
    remedy = f"write separator = {json.dumps(unsplit[0])} in the mapping{place}" if unsplit else _REMEDY
    sources.require_columns(names, needed, path, remedy)


def _typed(column: pa.ChunkedArray) -> pa.Array:
    """Return a text column as numbers where every cell is one."""
    column = flat(column)
    if not pa.types.is_string(column.type):
        return column
    numbers, bad = as_number(column)
    return as_text(column) if bad.any() else numbers


def _made_up_ids(columns: dict[str, pa.Array]) -> pa.Array:
    """Return ids made of what the event is, so that they do not depend on the order of the file.

    An event without time or item gets a stand-in: it is refused for that, not for its missing id.
    """
    parts = [columns[key] for key in (c.USER_ID, c.SESSION_ID, c.ITEM_ID, c.EVENT_TYPE) if key in columns]
    time = columns[c.TIMESTAMP].cast(pa.int64()).cast(pa.string())
    joined = pc.binary_join_element_wise(*parts, time, "|", null_handling="replace", null_replacement="")
    return pc.if_else(pc.and_(pc.is_valid(time), pc.is_valid(columns[c.ITEM_ID])), joined, "?")
