"""The Complete Journey 2.0 (84.51°): grocery baskets of households, as Parquet or CSV files in one folder.

A basket is a session, a product in it one purchase worth its sales value. Times carry no zone and are taken
as UTC.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets import sources
from recsys.datasets.adapter import EventBatch
from recsys.datasets.canonical import BAD_TIME, BAD_VALUE, canonical, constant
from recsys.datasets.parsing import as_number, as_text, as_time
from recsys.errors import UserError

_TRANSACTIONS: Final = (
    "household_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "transaction_timestamp",
)
_PRODUCTS: Final = ("product_id", "department", "brand", "product_category", "product_type")
_REMEDY: Final = "give the tables as the R package completejourney names their columns"
NO_QUANTITY: Final = "quantity not above zero"


class CompleteJourneyAdapter:
    """Reads transactions, products and, where they are there, demographics."""

    merges_lines = True
    session_gap_s = None

    def __init__(self, root: Path, batch_rows: int) -> None:
        self._batch_rows = batch_rows
        self.source = f"The Complete Journey, {root}"
        if not root.is_dir():
            raise UserError(
                f"no folder at {root}; The Complete Journey is a folder with transactions and products"
            )
        transactions = _find(root, "transactions")
        products = _find(root, "products")
        if transactions is None or products is None:
            missing = "transactions" if transactions is None else "products"
            raise UserError(f"{root} has no {missing}.parquet or {missing}.csv; put the table there")
        self._transactions, self._products = transactions, products
        self._demographics = _find(root, "demographics")
        sources.require_columns(sources.column_names(transactions), _TRANSACTIONS, transactions, _REMEDY)
        sources.require_columns(sources.column_names(products), _PRODUCTS, products, _REMEDY)

    def expected_rows(self) -> int:
        """Return the number of lines, or a guess."""
        return sources.expected_rows(self._transactions)

    def batches(self) -> Iterator[EventBatch]:
        """Stream the lines of baskets in which something was bought."""
        for batch in sources.stream(self._transactions, self._batch_rows, columns=_TRANSACTIONS):
            yield _events(batch)

    def items(self) -> pa.Table:
        """Return every product, sold in the log or not: its type as title, department and category."""
        table = sources.read_all(self._products)
        text = {name: as_text(table[name]) for name in table.column_names}
        return pa.table(
            {
                c.ITEM_ID: text["product_id"],
                c.TITLE: text["product_type"],
                c.CATEGORIES: _pairs(text["department"], text["product_category"]),
                "brand": text["brand"],
            }
        )

    def users(self) -> pa.Table | None:
        """Return the households' demographics, all of them categorical."""
        if self._demographics is None:
            return None
        table = sources.read_all(self._demographics)
        sources.require_columns(table.column_names, ["household_id"], self._demographics, _REMEDY)
        columns = {name: as_text(table[name]) for name in table.column_names}
        return pa.table({c.USER_ID: columns.pop("household_id"), **columns})


def _find(root: Path, name: str) -> Path | None:
    candidates = [
        root / f"{stem}{suffix}" for stem in (name, f"{name}_sample") for suffix in (".parquet", ".csv")
    ]
    return next((path for path in candidates if path.is_file()), None)


def _events(batch: sources.SourceBatch) -> EventBatch:
    quantity, _ = as_number(batch.table["quantity"])
    nothing = np.asarray(pc.fill_null(pc.less_equal(quantity, 0), False))
    left = np.flatnonzero(~nothing)
    table = batch.table.take(pa.array(left))
    basket, item = as_text(table["basket_id"]), as_text(table["product_id"])
    time, bad_time = as_time(table["transaction_timestamp"])
    value, bad_value = as_number(table["sales_value"])
    _, bad_quantity = as_number(table["quantity"])
    events = canonical(
        {
            c.EVENT_ID: pc.binary_join_element_wise(basket, item, "-"),
            c.USER_ID: as_text(table["household_id"]),
            c.SESSION_ID: basket,
            c.TIMESTAMP: time,
            c.ITEM_ID: item,
            c.EVENT_TYPE: constant(c.PURCHASE, len(left)),
            c.VALUE: value,
        },
        len(left),
    )
    refused = {BAD_TIME: bad_time, BAD_VALUE: bad_value | bad_quantity}
    removed = {NO_QUANTITY: int(nothing.sum())}
    return EventBatch(events, batch.rows[left], table, batch.read, refused, removed, batch.malformed)


def _pairs(first: pa.Array, second: pa.Array) -> pa.Array:
    """Return lists of the two values, nulls left out."""
    joined = pc.binary_join_element_wise(first, second, "\x1f", null_handling="skip")
    return pc.split_pattern(joined, "\x1f")
