"""One bucket of events put into histories: sorted by (history, time, tie), sessions numbered.

Events of one second-exact instant are ordered by a seeded hash of their ids, so nothing can profit from the
order of the file; those of one session stay together.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets.parsing import flat
from recsys.logs.coded import EVENT_HASH
from recsys.logs.hashing import hash_strings, salted
from recsys.logs.sessions import begins_by_gap, begins_by_name, ordinals
from recsys.types import IntArray, LongArray


@dataclass(frozen=True)
class HistoryBucket:
    """Whole histories, one after the other."""

    events: pa.Table  # sorted
    starts: LongArray  # (history,) first event of each
    users: pa.Array  # (history,) user ids, null for an anonymous session
    session: IntArray  # (event,)
    times: LongArray  # (event,) microseconds


def sort_histories(bucket: pa.Table, gap_s: float | None, tie_seed: int) -> HistoryBucket:
    """Sort one bucket of `Intake.events`."""
    history = bucket["_hash"].to_numpy()
    bucket = bucket.drop_columns(["_hash"])
    # the exact key behind the hash, so that two users of one hash never become one
    key = pc.if_else(
        pc.is_valid(bucket[c.USER_ID]),
        pc.binary_join_element_wise("u", bucket[c.USER_ID], ""),
        pc.binary_join_element_wise("s", bucket[c.SESSION_ID], ""),
    )
    code = flat(key).dictionary_encode().indices.to_numpy()
    times = flat(bucket[c.TIMESTAMP]).cast(pa.int64()).to_numpy()
    tie = salted(bucket[EVENT_HASH].to_numpy(), tie_seed)
    session = salted(hash_strings(bucket[c.SESSION_ID]), tie_seed)
    order = np.lexsort((tie, session, times, code, history))
    events = bucket.take(pa.array(order))
    code, times = code[order], times[order]
    begins_history = np.diff(code, prepend=-1) != 0
    starts = np.flatnonzero(begins_history)
    if gap_s is None:
        begins = begins_by_name(session[order], begins_history)
    else:
        begins = begins_by_gap(times, begins_history, gap_s)
        events = _name_sessions(events, begins, times)
    users = flat(events[c.USER_ID]).take(pa.array(starts))
    return HistoryBucket(events, starts, users, ordinals(begins, begins_history), times)


def _name_sessions(events: pa.Table, begins: np.ndarray, times: LongArray) -> pa.Table:
    """Return the events with sessions called `user@second of its first event`."""
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    seconds = pa.array(times[first] // 1_000_000).cast(pa.string())
    names = pc.binary_join_element_wise(flat(events[c.USER_ID]), seconds, "@")
    return events.set_column(events.column_names.index(c.SESSION_ID), c.SESSION_ID, names)
