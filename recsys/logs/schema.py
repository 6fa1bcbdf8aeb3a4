"""The three tables every adapter produces, every later step reads and the live store keeps.

Items and users may carry further columns: numbers are numeric features, strings are categorical or text ones.
"""

from typing import Final

import pyarrow as pa

from recsys import columns as c

TIMESTAMP_TYPE: Final = pa.timestamp("us", tz="UTC")

EVENTS: Final = pa.schema(
    [
        pa.field(c.EVENT_ID, pa.string(), nullable=False),
        pa.field(c.USER_ID, pa.string()),  # null: an anonymous session
        pa.field(c.SESSION_ID, pa.string(), nullable=False),
        pa.field(c.TIMESTAMP, TIMESTAMP_TYPE, nullable=False),
        pa.field(c.ITEM_ID, pa.string(), nullable=False),
        pa.field(c.EVENT_TYPE, pa.string(), nullable=False),
        pa.field(c.VALUE, pa.float64()),  # rating, revenue, watch ratio
        pa.field(c.RECOMMENDATION_ID, pa.string()),
        pa.field(c.POSITION, pa.int32()),
        pa.field(c.PROPENSITY, pa.float64()),
        pa.field(c.POLICY_VERSION, pa.string()),
    ]
)

ITEMS: Final = pa.schema(
    [
        pa.field(c.ITEM_ID, pa.string(), nullable=False),
        pa.field(c.TITLE, pa.string()),
        pa.field(c.CATEGORIES, pa.list_(pa.string())),
        pa.field(c.CREATED_AT, TIMESTAMP_TYPE),
        pa.field(c.AVAILABLE, pa.bool_()),
    ]
)

USERS: Final = pa.schema([pa.field(c.USER_ID, pa.string(), nullable=False)])
