"""Names for sessions that nobody named: a silence ends one, as it does live."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets.parsing import flat


def name_by_silence(events: pa.Table, gap_s: float) -> pa.Array:
    """Return the session of each event, (event,): as named, else `user@second` of the first event after a silence.

    Null where an event has neither session nor user. Order in the table does not matter.
    """
    named = flat(events[c.SESSION_ID]).cast(pa.string())
    users = flat(events[c.USER_ID]).cast(pa.string())
    if not named.null_count:
        return named
    unnamed = np.asarray(named.is_null()) & np.asarray(users.is_valid())
    row = np.flatnonzero(unnamed)
    code = users.take(pa.array(row)).dictionary_encode().indices.to_numpy()
    seconds = flat(events[c.TIMESTAMP]).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).take(pa.array(row))
    times = pc.fill_null(seconds, 0).to_numpy()
    order = np.lexsort((times, code))
    begins = np.ones(len(order), bool)
    changes = np.diff(code[order]) != 0
    begins[1:] = changes | (np.diff(times[order]) > gap_s * 1_000_000)
    first = np.empty(len(order), np.int64)
    first[order] = times[order][np.flatnonzero(begins)[np.cumsum(begins) - 1]] // 1_000_000
    made = pc.binary_join_element_wise(users.take(pa.array(row)), pa.array(first).cast(pa.string()), "@")
    return pc.replace_with_mask(named, pa.array(unnamed), made)
