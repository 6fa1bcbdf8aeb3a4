"""The canonical tables of a log as frames."""

from pathlib import Path
from textwrap import shorten
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from recsys import columns as c
from recsys.datasets.sources import SUFFIXES
from recsys.errors import UserError
from recsys.logs.schema import EVENTS

_SQLITE: Final = b"SQLite format 3\0"  # how such a file begins
_NEEDED: Final = (c.TIMESTAMP, c.ITEM_ID, c.EVENT_TYPE)


def read_events(log: Path) -> pd.DataFrame:
    """Return the event table of a folder of tables, a prepared log, a Parquet file or a folder of parts."""
    for inside in (log / "events.parquet", log / "events"):
        if inside.exists():
            return _events(inside)
    _refuse_run(log)
    return _events(log)


def read_items(log: Path) -> pd.DataFrame:
    """Return the item table beside a log, by item id."""
    return _side_table(log, "items", c.ITEM_ID)


def read_users(log: Path) -> pd.DataFrame:
    """Return the user table beside a log, by user id."""
    return _side_table(log, "users", c.USER_ID)


def events_frame(table: pa.Table) -> pd.DataFrame:
    """Return events as a frame with every column of the event table; those that are missing are empty."""
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in EVENTS
    ]
    frame: pd.DataFrame = pa.table(columns, names=EVENTS.names).to_pandas()
    frame[c.TIMESTAMP] = pd.to_datetime(frame[c.TIMESTAMP], utc=True).dt.as_unit("us")
    return frame


def _events(path: Path) -> pd.DataFrame:
    table = _read(path, "event table")
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise UserError(
            f"{path} lacks the columns {', '.join(missing)}; read a log of your own with `recsys import` first"
        )
    return events_frame(table)


def _side_table(log: Path, name: str, key: str) -> pd.DataFrame:
    _refuse_run(log)
    table = _read(log / f"{name}.parquet", f"table of {name}")
    if key not in table.column_names:
        raise UserError(f"{log / name}.parquet has no column {key}; it needs one")
    frame: pd.DataFrame = table.to_pandas()
    return frame.set_index(key)


def _refuse_run(log: Path) -> None:
    if (log / "prepare").is_dir():
        raise UserError(f"{log} is the folder of a run; give {log / 'prepare'}, its prepared log")


def _read(path: Path, what: str) -> pa.Table:
    if not path.exists():
        raise UserError(
            f"no {what} at {path}; give a folder with events.parquet and items.parquet, or a Parquet file"
        )
    try:
        return ds.dataset(path, format="parquet").to_table()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no Parquet {what}; {_remedy(path, error)}") from None


def _remedy(path: Path, error: Exception) -> str:
    """Return what reads a path that holds no Parquet."""
    if path.name.lower().endswith(SUFFIXES) and path.suffix != ".parquet":
        return (
            f"`recsys import {path} OUT --format file --mapping MAPPING` writes tables to give (docs/logs.md)"
        )
    if path.is_file() and _begins_with(path, _SQLITE):
        return (
            "it is a live store: recsys.frames.store.read_store(sqlite3.connect(PATH)) reads it, and `GET /v1/export` "
            "writes it as Parquet"
        )
    return f"export it again ({shorten(' '.join(str(error).split()), 120, placeholder=' …')})"


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start
