"""What a small log for a test is, and how its tables are written."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from recsys.config import LogConfig

Rows = list[tuple[object, ...]]


@dataclass(frozen=True)
class Sample:
    """What a small log holds and what must come out of it."""

    log: LogConfig
    rows: int
    events: int
    sessions: int
    items: int
    quarantined: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)


def ordered(rows: Rows, shuffle: int | None) -> Rows:
    """Return the rows, in another order where a seed is given."""
    if shuffle is None:
        return rows
    return [rows[place] for place in np.random.default_rng(shuffle).permutation(len(rows))]


def as_strings(names: list[str], rows: Rows) -> pa.Table:
    """Return rows as a table of text."""
    cells = [[None if row[place] is None else str(row[place]) for row in rows] for place in range(len(names))]
    return pa.table([pa.array(column, pa.string()) for column in cells], names=names)


def save(table: pa.Table, path: Path) -> None:
    """Write a table by the ending of its name."""
    if path.suffix == ".csv":
        pcsv.write_csv(table, path)
    else:
        pq.write_table(table, path)
