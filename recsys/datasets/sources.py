"""Tables on disk (Parquet, CSV, JSON Lines) streamed in batches of source columns with their row numbers."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.json as pjson
import pyarrow.parquet as pq

from recsys.datasets.adapter import Refusal
from recsys.errors import UserError
from recsys.types import LongArray

_JSON: Final = (".jsonl", ".jsonl.gz", ".ndjson")
_TABS: Final = (".tsv", ".tsv.gz")
SUFFIXES: Final = (".parquet", ".csv", ".csv.gz", *_TABS, *_JSON)
_BYTES_PER_ROW: Final = 64  # a guess, for the number of buckets only


@dataclass(frozen=True)
class SourceBatch:
    """Some rows of a table as they stand in the file."""

    table: pa.Table
    rows: LongArray  # (row,) 1-based, headers not counted
    malformed: tuple[Refusal, ...] = ()

    @property
    def read(self) -> int:
        """Source rows consumed."""
        return int(self.table.num_rows) + len(self.malformed)


@dataclass(frozen=True)
class CsvStyle:
    """How a delimited text file is written."""

    delimiter: str = ","
    quoted: bool = True
    encoding: str = "utf8"
    names: tuple[str, ...] = ()  # of a file without a header


def separated(path: Path, separator: str | None) -> CsvStyle:
    """Return how a delimited file is written: as is said, else by tabs if it is called so, else by commas."""
    return CsvStyle(delimiter=separator or ("\t" if path.name.lower().endswith(_TABS) else ","))


def is_json(path: Path) -> bool:
    """Say whether a file holds JSON Lines, by its name."""
    return path.name.lower().endswith(_JSON)


def require_file(path: Path, what: str) -> Path:
    """Return the path; raises UserError if it is no file, or an empty one."""
    if not path.is_file():
        raise UserError(f"no {what} at {path}; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; {what} needs at least a header and one row")
    return path


def require_columns(have: Sequence[str], needed: Sequence[str], path: Path, remedy: str) -> None:
    """Raise UserError if a needed column is missing."""
    missing = [name for name in needed if name not in have]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(have) or 'none'}); {remedy}"
        )


def expected_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file, or a guess by the size of another file."""
    if path.suffix == ".parquet":
        return int(_parquet(path).metadata.num_rows)
    size: int = path.stat().st_size
    return max(size // _BYTES_PER_ROW, 1)


def column_names(path: Path, style: CsvStyle | None = None) -> list[str]:
    """Return the names of a file's columns, for JSON Lines those of the first row."""
    if path.suffix == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    if not is_json(path):
        require_file(path, "CSV file")
        return _csv_header(path, style or CsvStyle())
    for batch in stream(path, 1):
        return list(batch.table.column_names)
    return []


def stream(
    path: Path, batch_rows: int, style: CsvStyle | None = None, columns: Sequence[str] | None = None
) -> Iterator[SourceBatch]:
    """Yield a table's rows in the order of the file; raises UserError if the file cannot be read at all."""
    if path.name.lower().endswith(".parquet"):
        yield from _stream_parquet(path, batch_rows, columns)
    elif is_json(path):
        yield from _stream_json(path, batch_rows)
    else:
        yield from _stream_csv(path, batch_rows, style or CsvStyle())


def read_all(path: Path, style: CsvStyle | None = None) -> pa.Table:
    """Return a whole table, for item and user tables; raises UserError on a row that cannot be laid out."""
    parts = []
    for batch in stream(path, 65_536, style):
        if batch.malformed:
            first = batch.malformed[0]
            raise UserError(f"{path} row {first.row}: {first.reason}; mend that row")
        parts.append(batch.table)
    if not parts:
        raise UserError(f"{path} holds no rows; it needs at least one")
    return pa.concat_tables(parts, promote_options="permissive")


def _parquet(path: Path) -> pq.ParquetFile:
    require_file(path, "Parquet file")
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from None


def group_sizes(path: Path) -> list[int]:
    """Return the rows of each row group of a Parquet file."""
    metadata = _parquet(path).metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def stream_groups(
    path: Path, batch_rows: int, columns: Sequence[str], groups: Sequence[int]
) -> Iterator[SourceBatch]:
    """Yield the rows of some row groups of a Parquet file, numbered from 1."""
    yield from _stream_parquet(path, batch_rows, columns, groups)


def _stream_parquet(
    path: Path, batch_rows: int, columns: Sequence[str] | None, groups: Sequence[int] | None = None
) -> Iterator[SourceBatch]:
    begin = 0
    file = _parquet(path)
    chosen = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
    try:
        for batch in file.iter_batches(batch_size=batch_rows, row_groups=groups, columns=chosen):
            rows = np.arange(begin + 1, begin + 1 + batch.num_rows)
            yield SourceBatch(pa.Table.from_batches([batch]), rows)
            begin += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read after row {begin:,}: {first}; copy it again") from None


def _stream_csv(path: Path, batch_rows: int, style: CsvStyle) -> Iterator[SourceBatch]:
    require_file(path, "CSV file")
    skipped: list[Refusal] = []

    def set_aside(row: pcsv.InvalidRow) -> str:
        reason = f"{row.actual_columns} columns instead of {row.expected_columns}"
        first = 1 if style.names else 2  # a header is line 1
        skipped.append(Refusal(row.number - first + 1, "wrong number of columns", f"{reason}: {row.text}"))
        return "skip"

    names = list(style.names) or _csv_header(path, style)
    reading = pcsv.ReadOptions(
        use_threads=False,  # so that row numbers of malformed rows are known
        encoding=style.encoding,
        column_names=list(style.names) or None,
        block_size=1 << 22,
    )
    parsing = pcsv.ParseOptions(
        delimiter=style.delimiter,
        quote_char='"' if style.quoted else False,
        double_quote=style.quoted,
        newlines_in_values=style.quoted,
        invalid_row_handler=set_aside,
    )
    # all text: what a cell means, and whether it is readable, is decided later and row by row
    converting = pcsv.ConvertOptions(
        column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""]
    )
    good = 0
    reported = 0
    try:
        with pcsv.open_csv(path, reading, parsing, converting) as reader:
            for batch in reader:
                for piece in range(0, batch.num_rows, batch_rows):
                    part = batch.slice(piece, batch_rows)
                    ordinals = np.arange(good, good + part.num_rows)
                    good += part.num_rows
                    aside = np.sort(np.array([refusal.row for refusal in skipped], dtype=np.int64)) - 1
                    shift = np.searchsorted(aside - np.arange(len(aside)), ordinals, side="right")
                    fresh, reported = tuple(skipped[reported:]), len(skipped)
                    yield SourceBatch(pa.Table.from_batches([part]), ordinals + shift + 1, fresh)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if "Empty CSV" not in str(error):  # a header and nothing else is a table without rows
            first = str(error).splitlines()[0]
            raise UserError(f"{path} is not {style.encoding} CSV: {first}; save it as such") from None
    if len(skipped) > reported:
        nothing = pa.table({name: pa.array([], pa.string()) for name in names})
        yield SourceBatch(nothing, np.empty(0, dtype=np.int64), tuple(skipped[reported:]))


def _csv_header(path: Path, style: CsvStyle) -> list[str]:
    with pa.input_stream(str(path), compression="detect") as file:
        line = file.read(1 << 16).split(b"\n", 1)[0]
    encoding = "latin-1" if style.encoding == "latin-1" else "utf-8-sig"
    text: str = line.decode(encoding, errors="replace").rstrip("\r")
    if not style.quoted:
        return text.split(style.delimiter)
    return next(csv.reader([text], delimiter=style.delimiter), [])


def _stream_json(path: Path, batch_rows: int) -> Iterator[SourceBatch]:
    require_file(path, "JSON Lines file")
    begin = 0
    with pa.input_stream(str(path), compression="detect") as file:
        rest = b""
        ended = False
        while not ended:
            chunk = file.read(1 << 22)
            ended = not chunk
            lines = (rest + chunk).split(b"\n")
            rest = b"" if ended else lines.pop()
            lines = [line for line in lines if line.strip()]
            for piece in range(0, len(lines), batch_rows):
                part = lines[piece : piece + batch_rows]
                yield _json_batch(part, begin)
                begin += len(part)


def _json_batch(lines: list[bytes], begin: int) -> SourceBatch:
    rows = np.arange(begin + 1, begin + 1 + len(lines))
    block = b"\n".join(lines) + b"\n"
    try:
        table = pjson.read_json(
            pa.BufferReader(block), pjson.ReadOptions(use_threads=False, block_size=len(block) + 1)
        )
        return SourceBatch(table, rows)
    except pa.ArrowInvalid:
        pass  # a broken line, or a column of mixed types, which pyarrow refuses: line by line, as text
    kept: list[dict[str, str | None]] = []
    numbers: list[int] = []
    malformed: list[Refusal] = []
    for number, line in zip(rows.tolist(), lines, strict=True):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            kept.append({key: None if cell is None else str(cell) for key, cell in value.items()})
            numbers.append(number)
        else:
            malformed.append(Refusal(number, "not a JSON object", line.decode("utf-8", errors="replace")))
    names = sorted({name for row in kept for name in row})
    table = pa.table({name: pa.array([row.get(name) for row in kept], pa.string()) for name in names})
    return SourceBatch(table, np.array(numbers, dtype=np.int64), tuple(malformed))
