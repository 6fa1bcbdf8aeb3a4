"""Small invoices and baskets in the layouts of Online Retail and The Complete Journey."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import openpyxl
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from sample_log import Rows, Sample, as_strings, ordered, save

from recsys.config import LogConfig

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
