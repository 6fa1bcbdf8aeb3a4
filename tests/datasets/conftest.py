"""Small logs in every format, written in their official layouts, each with its known right answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

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


INVOICE_COLUMNS = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
]
INVOICE_LINES: Rows = [
    ("536365", "85123A", "WHITE HEART", "6", "2010-12-01 08:26:00", "2.55", "17850", "United Kingdom"),
    (
        "536365",
        "85123a",
        "WHITE HEART",
        "4",
        "2010-12-01 08:26:00",
        "2.50",
        "17850",
        "United Kingdom",
    ),  # same item
    ("536365", "71053", "METAL LANTERN", "2", "2010-12-01 08:26:00", "3.39", "17850.0", "United Kingdom"),
    (
        "536365",
        "POST",
        "POSTAGE",
        "1",
        "2010-12-01 08:26:00",
        "18.00",
        "17850",
        "United Kingdom",
    ),  # no product
    ("536366", "71053", "LANTERN", "1", "2010-12-02 09:00:00", "3.00", None, "France"),  # anonymous
    ("536367", "71053", "METAL LANTERN", "1", "2010-12-03 09:00:00", "3.39", "13047", "France"),
    (
        "C536368",
        "71053",
        "METAL LANTERN",
        "-1",
        "2010-12-04 09:00:00",
        "3.39",
        "13047",
        "France",
    ),  # cancellation
    ("536369", "71053", "damaged", "-5", "2010-12-04 10:00:00", "0.00", None, "United Kingdom"),  # adjustment
    ("536370", "22222", "?", "5", "2010-12-04 11:00:00", "0.00", None, "United Kingdom"),  # no price
    ("A563185", "B", "Adjust bad debt", "1", "2010-12-04 12:00:00", "11062.06", None, "United Kingdom"),
    ("536371", "gift_0001_20", "Voucher", "1", "2010-12-04 12:00:00", "16.67", None, "United Kingdom"),
    ("536372", "71053", "METAL LANTERN", "1", "not a day", "3.39", "13047", "France"),  # refused
    ("536373", "71053", "METAL LANTERN", "one", "2010-12-05 09:00:00", "3.39", "13047", "France"),  # refused
    ("536374", None, "METAL LANTERN", "1", "2010-12-05 09:00:00", "3.39", "13047", "France"),  # refused
]
INVOICE_REMOVED = {
    "invoice A…: bad-debt adjustment": 1,
    "stock code of no product (POST, DOT, M, C2, D, S, B, BANK CHARGES, AMAZONFEE, CRUK, PADS)": 1,
    "stock code GIFT_…: gift voucher": 1,
    "negative quantity without a cancellation: stock adjustment": 1,
    "unit price not above zero": 1,
    "lines merged into their event": 1,
}


def online_retail(kind: str) -> Callable[[Path, int | None], Sample]:
    """Return a writer of the invoices in one file type."""

    def write(root: Path, shuffle: int | None) -> Sample:
        lines = ordered(INVOICE_LINES, shuffle)
        path = root / f"Online Retail.{kind}"
        refused = {"unparsable time": 1, "unparsable value": 1, "missing event id": 1}
        if kind == "xlsx":
            book = openpyxl.Workbook()
            sheet = book.active
            sheet.append(INVOICE_COLUMNS)
            for line in lines:
                cells = list(line)
                if str(cells[4]).startswith("2010"):
                    cells[4] = datetime.fromisoformat(str(cells[4]))
                sheet.append(cells)
            book.save(path)
        elif kind == "csv":
            # as spreadsheets export it: American dates
            table = as_strings(INVOICE_COLUMNS, [(*x[:4], american(str(x[4])), *x[5:]) for x in lines])
            pcsv.write_csv(table, path)
        else:
            pq.write_table(as_strings(INVOICE_COLUMNS, lines), path)
        log = LogConfig(format="online-retail", path=path, max_bad_share=0.5)
        return Sample(log, 14, 5, 4, 2, refused, INVOICE_REMOVED)

    return write


def american(text: str) -> str:
    """Return `2010-12-01 08:26:00` as `12/1/2010 8:26`."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time.month}/{time.day}/{time.year} {time.hour}:{time.minute:02d}"


def complete_journey(kind: str) -> Callable[[Path, int | None], Sample]:
    """Return a writer of baskets in one file type."""
    names = [
        "household_id",
        "store_id",
        "basket_id",
        "product_id",
        "quantity",
        "sales_value",
        "transaction_timestamp",
    ]
    lines: Rows = [
        ("1", "9", "b1", "100", "1", "3.86", "2017-01-01 19:06:53"),
        ("1", "9", "b1", "200", "2", "1.59", "2017-01-01 19:06:53"),
        ("1", "9", "b2", "100", "1", "3.86", "2017-02-01 10:00:00"),
        ("2", "9", "b3", "200", "1", "1.00", "2017-03-01 10:00:00"),
        ("2", "9", "b3", "300", "0", "0.00", "2017-03-01 10:00:00"),  # nothing bought
        ("2", "9", "b4", "999", "1", "1.00", "2017-03-02 10:00:00"),  # not among the products
    ]
    products: Rows = [
        ("100", "2", "GROCERY", "National", "FRZN ICE", "ICE - CRUSHED", "22 LB"),
        ("200", "2", "PASTRY", "Private", "BREAD", "BREAD:ITALIAN", None),
        ("300", "2", "MISC", "National", None, None, None),
    ]
    product_names = [
        "product_id",
        "manufacturer_id",
        "department",
        "brand",
        "product_category",
        "product_type",
        "package_size",
    ]

    def write(root: Path, shuffle: int | None) -> Sample:
        save(as_strings(names, ordered(lines, shuffle)), root / f"transactions.{kind}")
        save(as_strings(product_names, products), root / f"products.{kind}")
        save(
            as_strings(["household_id", "age"], [("1", "65+"), ("2", "19-24")]), root / f"demographics.{kind}"
        )
        log = LogConfig(format="complete-journey", path=root, max_bad_share=0.5)
        return Sample(log, 6, 4, 3, 3, {"unknown item": 1}, {"quantity not above zero": 1})

    return write


def save(table: pa.Table, path: Path) -> None:
    """Write a table by the ending of its name."""
    if path.suffix == ".csv":
        pcsv.write_csv(table, path)
    else:
        pq.write_table(table, path)


RATINGS: Rows = [
    ("1", "10", "5", "978300760"),
    ("1", "20", "3", "978300770"),  # the same sitting
    ("1", "30", "4", "978400000"),  # another one
    ("2", "10", "1", "978300760"),
    ("2", "20", "many", "978300761"),  # refused
]


def movielens(layout: str) -> Callable[[Path, int | None], Sample]:
    """Return a writer of ratings in one of the archives' layouts."""

    def write(root: Path, shuffle: int | None) -> Sample:
        rows = ordered(RATINGS, shuffle)
        if layout == "100K":
            lines(root / "u.data", rows, "\t")
            flags = ["0"] * 19
            comedy, drama = [*flags], [*flags]
            comedy[5] = drama[8] = "1"
            films = [
                ("10", "Élan (1995)", comedy),
                ("20", 'The "Quoted" One (1996)', drama),
                ("30", "Nameless", flags),
            ]
            movies: Rows = [
                (number, title, "01-Jan-1995", "", "http://x", *genres) for number, title, genres in films
            ]
            lines(root / "u.item", movies, "|")
            lines(
                root / "u.user",
                [("1", "24", "M", "technician", "85711"), ("2", "53", "F", "other", "94043")],
                "|",
            )
        elif layout == "1M":
            lines(root / "ratings.dat", rows, "::")
            films_1m: Rows = [
                ("10", "Élan: Two (1995)", "Comedy"),
                ("20", "Two (1996)", "Drama|War"),
                ("30", "N", ""),
            ]
            lines(root / "movies.dat", films_1m, "::")
            lines(root / "users.dat", [("1", "M", "25", "7", "85711"), ("2", "F", "50", "0", "94043")], "::")
        else:
            pcsv.write_csv(
                as_strings(["userId", "movieId", "rating", "timestamp"], rows), root / "ratings.csv"
            )
            films_csv: Rows = [
                ("10", "Élan, Two (1995)", "Comedy"),
                ("20", "Two", "Drama|War"),
                ("30", "N", "(no genres listed)"),
            ]
            pcsv.write_csv(as_strings(["movieId", "title", "genres"], films_csv), root / "movies.csv")
        log = LogConfig(format="movielens", path=root, max_bad_share=0.5)
        return Sample(log, 5, 4, 3, 3, {"unparsable value": 1})

    return write


def lines(path: Path, rows: Rows, separator: str) -> None:
    """Write rows as the older archives do: no header, no quotes, latin-1."""
    path.write_text(
        "".join(separator.join(str(cell) for cell in row) + "\n" for row in rows), encoding="latin-1"
    )


def open_bandit(root: Path, shuffle: int | None) -> Sample:
    """Write impressions of the random policy, one of them clicked."""
    folder = root / "random" / "men"
    folder.mkdir(parents=True, exist_ok=True)
    names = ["", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0"]
    rows: Rows = [
        ("0", "2019-11-24 00:01:03.979311+00:00", "2", "2", "0", "0.5", "cef"),
        ("1", "2019-11-24 00:01:45.406608+00:00", "0", "3", "1", "0.25", "cef"),
        ("2", "2019-11-24 00:02:45+00:00", "1", "1", "0", "0.25", "ab"),
        ("3", "2019-11-24 00:03:45+00:00", "1", "1", "0", "1.5", "ab"),  # refused
    ]
    pcsv.write_csv(as_strings(names, ordered(rows, shuffle)), folder / "men.csv")
    context: Rows = [(str(item), str(item), str(-0.5 * item), "c82", "088") for item in range(3)]
    pcsv.write_csv(
        as_strings(["", "item_id", "item_feature_0", "item_feature_1", "item_feature_2"], context),
        folder / "item_context.csv",
    )
    log = LogConfig(format="open-bandit", path=folder, max_bad_share=0.5)
    return Sample(log, 4, 4, 3, 3, {"propensity outside (0, 1]": 1})


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


SAMPLES: dict[str, Callable[[Path, int | None], Sample]] = {
    "tables": tables,
    "online-retail-parquet": online_retail("parquet"),
    "online-retail-csv": online_retail("csv"),
    "online-retail-xlsx": online_retail("xlsx"),
    "complete-journey-parquet": complete_journey("parquet"),
    "complete-journey-csv": complete_journey("csv"),
    "movielens-100K": movielens("100K"),
    "movielens-1M": movielens("1M"),
    "movielens-latest": movielens("latest"),
    "open-bandit": open_bandit,
    "file-csv": mapped_file("csv"),
    "file-parquet": mapped_file("parquet"),
    "file-jsonl": mapped_file("jsonl"),
}


@pytest.fixture(params=SAMPLES)
def write_sample(request: pytest.FixtureRequest) -> Callable[[Path, int | None], Sample]:
    """One of the small logs, as a function that writes it."""
    return SAMPLES[request.param]


@pytest.fixture
def samples() -> dict[str, Callable[[Path, int | None], Sample]]:
    """All of the small logs."""
    return SAMPLES
