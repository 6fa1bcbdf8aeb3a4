"""Small logs as canonical tables, and as files that a mapping describes."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sample_log import Rows, Sample, as_strings, ordered, save

from recsys.config import LogConfig

FILE_ROWS: Rows = [
    ("ann", "x", "1577836800", "view", None),
    ("ann", "y", "1577836860", "buy", "3.5"),
    ("ann", "x", "1577923200", "view", None),  # a day later
    ("bob", "y", "1577836800", "view", None),
    ("bob", "y", "1577836801", "wave", None),  # no reward for it
    ("", "y", "1577836802", "view", None),  # nobody
]
MAPPING = """
session_gap_minutes = 30

[columns]
user_id = "who"
item_id = "what"
timestamp = "at"
event_type = "did"
value = "paid"

[event_types]
view = "click"
buy = "purchase"

[time]
unit = "s"

[items]
path = "catalogue.csv"
id = "sku"
title = "name"
categories = "kinds"
"""


def mapped_file(kind: str) -> Callable[[Path, int | None], Sample]:
    """Return a writer of somebody's own log in one file type."""

    def write(root: Path, shuffle: int | None) -> Sample:
        names = ["who", "what", "at", "did", "paid"]
        rows = ordered(FILE_ROWS, shuffle)
        path = root / f"log.{kind}"
        if kind == "jsonl":
            typed = [
                (*row[:2], int(str(row[2])), row[3], None if row[4] is None else float(str(row[4])))
                for row in rows
            ]
            path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in typed))
        else:
            save(as_strings(names, rows), path)
        (root / "catalogue.csv").write_text(
            "sku,name,kinds,weight\nx,Red ball,toys|round,1.5\ny,Blue cup,kitchen,0.2\nz,Plate,,3\n"
        )
        (root / "mapping.toml").write_text(MAPPING)
        log = LogConfig(format="file", path=path, mapping=root / "mapping.toml", max_bad_share=0.5)
        return Sample(log, 6, 4, 3, 3, {"unknown event type": 1, "missing user id": 1})

    return write


def tables(root: Path, shuffle: int | None) -> Sample:
    """Write the canonical tables, two parts, with one event twice."""
    names = ["event_id", "user_id", "session_id", "item_id", "event_type"]
    rows: Rows = [
        ("e1", "ann", "s1", "x", "click", 0, None),
        ("e2", "ann", "s1", "y", "purchase", 1, 2.0),
        ("e3", None, "s2", "x", "click", 2, None),
        ("e4", "bob", "s3", "x", "click", 3, float("inf")),  # refused
        ("e1", "ann", "s1", "x", "click", 0, None),  # refused
    ]
    rows = ordered(rows, shuffle)
    (root / "events").mkdir(exist_ok=True)
    for part, some in enumerate((rows[:2], rows[2:])):
        text = as_strings(names, [row[:5] for row in some])
        seconds = pa.array([1_577_836_800 + int(str(row[5])) for row in some]).cast(
            pa.timestamp("s", tz="UTC")
        )
        values = pa.array([row[6] for row in some], pa.float64())
        pq.write_table(
            text.append_column("timestamp", seconds).append_column("value", values),
            root / "events" / f"part-{part}.parquet",
        )
    pq.write_table(
        as_strings(["item_id", "title"], [("x", "Red ball"), ("y", "Blue cup")]), root / "items.parquet"
    )
    pq.write_table(
        as_strings(["user_id", "country"], [("ann", "FR"), ("carl", "DE")]), root / "users.parquet"
    )
    return Sample(
        LogConfig(path=root, max_bad_share=0.5), 5, 3, 2, 2, {"value not finite": 1, "duplicate event id": 1}
    )
