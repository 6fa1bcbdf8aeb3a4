"""Events on their way through prepare: items and types as codes, the row number and a hash beside them."""

from typing import Final

import pyarrow as pa

from recsys import columns as c
from recsys.datasets.parsing import flat
from recsys.logs.schema import EVENTS

ITEM_CODE: Final = "item_code"
TYPE_CODE: Final = "type_code"
ROW: Final = "row"
EVENT_HASH: Final = "event_hash"  # of the event id


def as_events(table: pa.Table, items: pa.Array, event_types: pa.Array) -> pa.Table:
    """Return coded rows as schema.EVENTS says, codes turned back into names."""
    named = {
        c.ITEM_ID: items.take(flat(table[ITEM_CODE])),
        c.EVENT_TYPE: event_types.take(flat(table[TYPE_CODE])),
    }
    return pa.table(
        {name: named[name] if name in named else table[name] for name in EVENTS.names}, schema=EVENTS
    )
