"""Which events of a batch cannot be used, and why: one reason a row, the first that holds."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets.parsing import flat
from recsys.types import BoolArray, IntArray

_EARLIEST: Final = (
    -2_208_988_800_000_000
)  # 1900, in microseconds: what lies outside is a wrong unit, not a time
_LATEST: Final = 7_258_118_400_000_000  # 2200

UNKNOWN_ITEM: Final = "unknown item"
UNKNOWN_TYPE: Final = "unknown event type"
DUPLICATE: Final = "duplicate event id"


def refusals(
    events: pa.Table,
    unreadable: Mapping[str, BoolArray],
    sessions_are_named: bool,
    unknown_item: BoolArray,
    unknown_type: BoolArray,
) -> tuple[list[str], IntArray]:
    """Return the reasons and, per event, the index of the one that holds, −1 where the event is sound."""
    checks: dict[str, BoolArray] = dict(unreadable)
    checks["missing event id"] = _null(events, c.EVENT_ID)
    checks["missing item id"] = _null(events, c.ITEM_ID)
    if sessions_are_named:
        checks["missing session id"] = _null(events, c.SESSION_ID)
    else:
        checks["missing user id"] = _null(events, c.USER_ID)
    checks["missing event type"] = _null(events, c.EVENT_TYPE)
    checks["missing time"] = _null(events, c.TIMESTAMP)
    microseconds = pc.fill_null(flat(events[c.TIMESTAMP]).cast(pa.int64()), 0).to_numpy()
    checks["time outside 1900 to 2200"] = (microseconds < _EARLIEST) | (microseconds > _LATEST)
    checks["value not finite"] = _not_finite(events[c.VALUE])
    propensity = pc.fill_null(flat(events[c.PROPENSITY]), 1.0).to_numpy()
    checks["propensity outside (0, 1]"] = ~((propensity > 0.0) & (propensity <= 1.0))
    checks["position below 0"] = pc.fill_null(flat(events[c.POSITION]), 0).to_numpy() < 0
    checks[UNKNOWN_TYPE] = unknown_type
    checks[UNKNOWN_ITEM] = unknown_item
    reason = np.full(events.num_rows, -1, dtype=np.int32)
    for number, mask in enumerate(checks.values()):
        if mask.any():
            reason[mask & (reason < 0)] = number
    return list(checks), reason


def _null(events: pa.Table, name: str) -> BoolArray:
    mask: BoolArray = np.asarray(events[name].is_null())
    return mask


def _not_finite(column: pa.ChunkedArray) -> BoolArray:
    mask: BoolArray = ~np.isfinite(pc.fill_null(flat(column), 0.0).to_numpy())
    return mask
