"""An .xlsx sheet spooled once to a temporary Parquet file: a workbook can only be read row by row."""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.datasets.sources import require_columns
from recsys.errors import UserError

_ROWS_AT_ONCE = 20_000


class SpooledSheet:
    """A temporary Parquet copy of a sheet, all text; it goes away with this object."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="recsys-sheet-")
        self.path = Path(self._folder.name) / "sheet.parquet"


def excel_as_parquet(path: Path, columns: Sequence[str]) -> SpooledSheet:
    """Copy the first sheet's columns.

    Raises UserError if the `excel` extra is not installed, the file is no workbook, or a column is missing.
    """
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise UserError(f"{path} needs openpyxl; install the extra: pip install 'metaq[excel]'") from None
    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises zip, key and its own errors for a file that is no workbook
        raise UserError(f"{path} is not an Excel workbook: {str(error).splitlines()[0]}") from None
    spooled = SpooledSheet()
    try:
        lines: Iterator[tuple[Any, ...]] = workbook.worksheets[0].iter_rows(values_only=True)
        header = [str(name) for name in next(lines, ())]
        require_columns(header, columns, path, "give the sheet as it was published")
        places = [header.index(name) for name in columns]
        schema = pa.schema([(name, pa.string()) for name in columns])
        with pq.ParquetWriter(spooled.path, schema) as writer:
            while block := list(islice(lines, _ROWS_AT_ONCE)):
                cells = [pa.array([_text(line[place]) for line in block], pa.string()) for place in places]
                writer.write_table(pa.table(cells, schema=schema))
    finally:
        workbook.close()
    return spooled


def _text(cell: Any) -> str | None:
    return None if cell is None else str(cell)
