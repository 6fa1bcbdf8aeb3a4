"""One bucket of events put into histories: sorted by (history, time, tie), sessions numbered.

Events of one second-exact instant are ordered by a seeded hash of their ids, so nothing can profit from the
order of the file; those of one session stay together. Sessions are those of what stands in the histories: kept apart,
being shown something neither ends a silence nor begins a session.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.config import Impressions
from recsys.datasets.parsing import flat
from recsys.logs.coded import EVENT_HASH, ITEM_CODE, TYPE_CODE
from recsys.logs.hashing import hash_strings, salted
from recsys.logs.sessions import begins_by_gap, begins_by_name, ordinals
from recsys.types import BoolArray, IntArray, LongArray


@dataclass(frozen=True)
class HistoryBucket:
    """Whole histories, one after the other."""

    events: pa.Table  # sorted
    starts: LongArray  # (history,) first event of each
    users: pa.Array  # (history,) user ids, null for an anonymous session
    times: LongArray  # (event,) microseconds
    feedback: BoolArray  # (event,) all but impressions
    tokens: BoolArray  # (event,) what stands in the histories: feedback and, as actions, impressions without response
    session: IntArray  # (token,)


def sort_histories(
    bucket: pa.Table,
    gap_s: float | None,
    tie_seed: int,
    impression: int | None,
    impressions: Impressions = "apart",
) -> HistoryBucket:
    """Sort one bucket of `Intake.events`; `impression` is that type's code, None if the log has no such type."""
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
    feedback = flat(events[TYPE_CODE]).to_numpy() != (-1 if impression is None else impression)
    tokens = feedback if impressions == "apart" else feedback | ~_answered(events, code, feedback)
    # kept apart, who was only shown things has sessions too, in the event table alone
    lengths = np.diff(np.append(starts, len(code)))
    leading = np.flatnonzero(tokens | ~np.repeat(np.logical_or.reduceat(tokens, starts), lengths))
    begins_led = np.diff(code[leading], prepend=-1) != 0
    if gap_s is None:
        begins = begins_by_name(session[order][leading], begins_led)
    else:
        begins = begins_by_gap(times[leading], begins_led, gap_s)
        first = leading[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
        events = _name_sessions(events, first[_nearest(leading, code, times)], times)
    users = flat(events[c.USER_ID]).take(pa.array(starts))
    session = ordinals(begins, begins_led)[tokens[leading]]
    return HistoryBucket(events, starts, users, times, feedback, tokens, session)


def _answered(events: pa.Table, code: IntArray, feedback: BoolArray) -> BoolArray:
    """Return which events name an item and a recommendation that feedback of their history names too, (event,)."""
    named = flat(events[c.RECOMMENDATION_ID]).dictionary_encode().indices
    recommendation = pc.fill_null(named, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    item = flat(events[ITEM_CODE]).to_numpy().astype(np.int64)
    # three codes as one number, in two steps, because their product may not fit
    shown = recommendation * (int(item.max(initial=0)) + 1) + item
    _, shown = np.unique(shown, return_inverse=True)
    key = shown * (int(code.max(initial=0)) + 1) + code
    answers = feedback & (recommendation >= 0)
    answered: BoolArray = np.isin(key, key[answers]) & (recommendation >= 0)
    return answered


def _nearest(leading: LongArray, code: IntArray, times: LongArray) -> LongArray:
    """Return for each event which leading event of its history is nearest in time, the later of two; (event,)."""
    event = np.arange(len(code))
    after = np.minimum(np.searchsorted(leading, event), len(leading) - 1)
    before = np.maximum(np.searchsorted(leading, event, side="right") - 1, 0)
    later, earlier = leading[after], leading[before]
    has_later = (later >= event) & (code[later] == code)
    has_earlier = (earlier <= event) & (code[earlier] == code)
    is_nearer = times[later] - times <= times - times[earlier]
    nearest: LongArray = np.where(has_later & (is_nearer | ~has_earlier), after, before)
    return nearest


def _name_sessions(events: pa.Table, first: LongArray, times: LongArray) -> pa.Table:
    """Return the events with sessions called `user@second`, the second being that of the session's `first` event."""
    seconds = pa.array(times[first] // 1_000_000).cast(pa.string())
    names = pc.binary_join_element_wise(flat(events[c.USER_ID]), seconds, "@")
    return events.set_column(events.column_names.index(c.SESSION_ID), c.SESSION_ID, names)
