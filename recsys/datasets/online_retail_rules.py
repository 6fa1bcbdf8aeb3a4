"""The cleaning rules of Online Retail: which lines are no customer buying or returning a product.

A line falls under the first rule that fits. Each rule's count is part of the result; none of them is an
error.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.types import BoolArray

# postage, carriage, manual entries, discounts, samples, fees and a charity's commission
NON_PRODUCTS: Final = ("POST", "DOT", "M", "C2", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK", "PADS")

BAD_DEBT: Final = "invoice A…: bad-debt adjustment"
NON_PRODUCT: Final = f"stock code of no product ({', '.join(NON_PRODUCTS)})"
VOUCHER: Final = "stock code GIFT_…: gift voucher"
ADJUSTMENT: Final = "negative quantity without a cancellation: stock adjustment"
NO_QUANTITY: Final = "quantity zero"
NO_PRICE: Final = "unit price not above zero"


def first_rule(
    invoice: pa.Array, stock_code: pa.Array, quantity: pa.Array, price: pa.Array
) -> dict[str, BoolArray]:
    """Return, for every rule, the lines it removes; no line is under two rules."""
    cancelled = pc.starts_with(invoice, "C")
    masks = {
        BAD_DEBT: pc.starts_with(invoice, "A"),
        NON_PRODUCT: pc.is_in(stock_code, value_set=pa.array(NON_PRODUCTS)),
        VOUCHER: pc.starts_with(stock_code, "GIFT"),
        ADJUSTMENT: pc.and_(pc.less(quantity, 0), pc.invert(cancelled)),
        NO_QUANTITY: pc.equal(quantity, 0),
        NO_PRICE: pc.less_equal(price, 0),
    }
    taken = np.zeros(len(invoice), dtype=np.bool_)
    rules: dict[str, BoolArray] = {}
    for rule, mask in masks.items():
        # what cannot be read is under no rule: it goes to the quarantine instead
        rules[rule] = np.asarray(pc.fill_null(mask, False)) & ~taken
        taken |= rules[rule]
    return rules
