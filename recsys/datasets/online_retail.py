"""UCI Online Retail: the lines of a gift wholesaler's invoices, as .xlsx, .csv or .parquet.

An invoice is a session, a purchased line an event worth quantity × unit price, a line of an invoice C… a
cancellation of negative worth. Lines of one item on one invoice are one event. Times carry no zone and are
taken as UTC.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets import sources
from recsys.datasets.adapter import EventBatch
from recsys.datasets.canonical import BAD_TIME, BAD_VALUE, canonical
from recsys.datasets.excel import excel_as_parquet
from recsys.datasets.online_retail_rules import first_rule
from recsys.datasets.parsing import as_number, as_text, as_time
from recsys.datasets.tallies import Tally
from recsys.errors import UserError
from recsys.types import BoolArray

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_REMEDY: Final = "give the UCI file with its own header (data set 352)"
_PENCE: Final = 2  # decimals of a line's worth
_US_TIME: Final = "%m/%d/%Y %H:%M"  # as spreadsheets export the dates of the .xlsx


class OnlineRetailAdapter:
    """Reads the invoice lines; items and users are tallied from the lines that the rules leave."""

    merges_lines = True
    session_gap_s = None

    def __init__(self, path: Path, batch_rows: int) -> None:
        self._batch_rows = batch_rows
        self._path = _find(path)
        self.source = f"Online Retail, {self._path}"
        self._spooled = (
            excel_as_parquet(self._path, COLUMNS) if self._path.suffix.lower() == ".xlsx" else None
        )
        self._table = self._spooled.path if self._spooled else self._path
        sources.require_columns(sources.column_names(self._table), COLUMNS, self._path, _REMEDY)

    def expected_rows(self) -> int:
        """Return the number of lines, or a guess."""
        return sources.expected_rows(self._table)

    def batches(self) -> Iterator[EventBatch]:
        """Stream the invoice lines that the rules leave."""
        for batch in sources.stream(self._table, self._batch_rows, columns=COLUMNS):
            yield _events(batch)

    def items(self) -> pa.Table:
        """Return each item's most frequent description and median unit price."""
        titles, prices, _ = self._tallies
        named = titles.most_frequent(c.ITEM_ID, c.TITLE)
        priced = prices.weighted_median(c.ITEM_ID, "price")
        items = priced.join(named, keys=c.ITEM_ID, join_type="left outer").sort_by(c.ITEM_ID)
        return items.select([c.ITEM_ID, c.TITLE, "price"]).combine_chunks()

    def users(self) -> pa.Table:
        """Return each customer's most frequent country."""
        return self._tallies[2].most_frequent(c.USER_ID, "country")

    @cached_property
    def _tallies(self) -> tuple[Tally, Tally, Tally]:
        titles = Tally((c.ITEM_ID, c.TITLE))
        prices = Tally((c.ITEM_ID, "price"))
        countries = Tally((c.USER_ID, "country"))
        for batch in sources.stream(self._table, self._batch_rows, columns=COLUMNS):
            invoice, item, user, quantity, price = _cells(batch.table)
            left = pa.array(~_removed(first_rule(invoice, item, quantity, price)))
            prices.add(item.filter(left), price.filter(left))
            titles.add(item.filter(left), as_text(batch.table["Description"]).filter(left))
            countries.add(user.filter(left), as_text(batch.table["Country"]).filter(left))
        return titles, prices, countries


def _find(path: Path) -> Path:
    if path.is_dir():
        found = sorted(
            file for file in path.iterdir() if file.name.lower().endswith((".xlsx", ".csv", ".parquet"))
        )
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise UserError(f"{path} holds {len(found)} tables ({names}), must be one; give the file itself")
        return found[0]
    return sources.require_file(path, "Online Retail file (.xlsx, .csv or .parquet)")


def _cells(table: pa.Table) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array, pa.Array]:
    invoice = pc.utf8_upper(as_text(table["InvoiceNo"]))
    item = pc.utf8_upper(as_text(table["StockCode"]))
    # a customer written by a spreadsheet is 17850.0
    user = pc.replace_substring_regex(as_text(table["CustomerID"]), r"\.0+$", "")
    return invoice, item, user, as_number(table["Quantity"])[0], as_number(table["UnitPrice"])[0]


def _removed(rules: dict[str, BoolArray]) -> BoolArray:
    removed: BoolArray = np.logical_or.reduce(list(rules.values()))
    return removed


def _events(batch: sources.SourceBatch) -> EventBatch:
    table = batch.table
    invoice, item, user, quantity, price = _cells(table)
    rules = first_rule(invoice, item, quantity, price)
    left = np.flatnonzero(~_removed(rules))
    bad_number = (_unreadable(table["Quantity"]) | _unreadable(table["UnitPrice"]))[left]
    take = pa.array(left)
    table, invoice, item, user = (column.take(take) for column in (table, invoice, item, user))
    worth = np.round((pc.multiply(quantity, price).take(take)).to_numpy(zero_copy_only=False), _PENCE)
    time, bad_time = as_time(table["InvoiceDate"])
    if bad_time.any():
        american, _ = as_time(table["InvoiceDate"], _US_TIME)
        time = pc.coalesce(time, american)
        bad_time &= np.asarray(pc.is_null(time))
    kind = pc.if_else(pc.starts_with(invoice, "C"), c.CANCELLATION, c.PURCHASE)
    events = canonical(
        {
            c.EVENT_ID: pc.binary_join_element_wise(invoice, item, "-"),
            c.USER_ID: user,
            c.SESSION_ID: invoice,
            c.TIMESTAMP: time,
            c.ITEM_ID: item,
            c.EVENT_TYPE: kind,
            c.VALUE: pa.array(worth, mask=np.isnan(worth)),
        },
        len(left),
    )
    refused = {BAD_TIME: bad_time, BAD_VALUE: bad_number}
    removed = {rule: int(mask.sum()) for rule, mask in rules.items()}
    return EventBatch(events, batch.rows[left], table, batch.read, refused, removed, batch.malformed)


def _unreadable(column: pa.ChunkedArray) -> BoolArray:
    """Return which cells hold no number at all, blank ones included: a line needs both."""
    numbers, _ = as_number(column)
    unreadable: BoolArray = np.isnan(numbers.to_numpy(zero_copy_only=False))  # a null is NaN there, too
    return unreadable
