"""The traffic of an endpoint as tables in a folder: one reading for training, replay and drift.

    events/part-*.parquet    users in buckets, each in time order; every row has a session, but for nobody's lists
    users.parquet            what the endpoint was told of users

The store is the memory of the loop: what it has forgotten, a deleted user, no later reading holds. Memory is bounded by
a batch or a bucket of users.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.logs.buckets import Buckets
from recsys.logs.hashing import hash_strings
from recsys.logs.schema import EVENTS
from recsys.logs.session_names import name_by_silence

USERS_FILE: Final = "users.parquet"
_ROWS_PER_BUCKET: Final = 1_000_000


@dataclass(frozen=True)
class LiveLog:
    """What was read."""

    folder: Path
    events: int
    lists: int
    first_us: int
    last_us: int
    list_times: np.ndarray[tuple[int], np.dtype[np.int64]] = field(repr=False)  # ascending, microseconds
    attributes: Mapping[str, Mapping[str, str]] = field(repr=False, default_factory=dict)  # by user
    items: Mapping[str, Mapping[str, Any]] = field(
        repr=False, default_factory=dict
    )  # changed since the bundle


def write_live_log(
    batches: Iterator[pa.Table],
    folder: Path,
    session_gap_minutes: float,
    attributes: Mapping[str, Mapping[str, str]],
    items: Mapping[str, Mapping[str, Any]],
) -> LiveLog:
    """Write batches of events, in any order, into a fresh folder; columns beyond those of the event table stay."""
    (folder / "events").mkdir(parents=True)
    events, times, seen = 0, [np.empty(0, np.int64)], [2**62, -(2**62)]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch-") as scratch:
        by_user = Buckets(Path(scratch), _ROWS_PER_BUCKET, _ROWS_PER_BUCKET)
        for batch in batches:
            who = pc.coalesce(batch[c.USER_ID], batch[c.SESSION_ID])
            # nobody's feedback says nothing; nobody's lists are counted by whoever leaves them out
            kept = pc.or_(pc.is_valid(who), pc.equal(batch[c.EVENT_TYPE], c.IMPRESSION))
            batch = batch.append_column("who", who).filter(kept)
            if len(batch):
                by_user.add(batch, hash_strings(batch["who"]))
        for part, (bucket, _) in enumerate(by_user.tables()):
            bucket = bucket.sort_by(
                [("who", "ascending"), (c.TIMESTAMP, "ascending"), (c.EVENT_ID, "ascending")]
            )
            names = name_by_silence(bucket, session_gap_minutes * 60.0)
            place = bucket.column_names.index(c.SESSION_ID)
            named = bucket.set_column(place, c.SESSION_ID, names).drop_columns(["who"])
            pq.write_table(named, folder / "events" / f"part-{part:05d}.parquet", compression="zstd")
            events += len(named)
            moments = named[c.TIMESTAMP].cast(pa.int64()).to_numpy()
            seen = [min(seen[0], int(moments.min())), max(seen[1], int(moments.max()))]
            times.append(_of_lists(named))
    if not events:
        pq.write_table(EVENTS.empty_table(), folder / "events" / "part-00000.parquet")
    pq.write_table(_user_table(attributes), folder / USERS_FILE)
    lists = np.sort(np.concatenate(times))
    return LiveLog(
        folder,
        events,
        len(lists),
        seen[0] if events else 0,
        seen[1] if events else 0,
        lists,
        attributes,
        items,
    )


def _of_lists(events: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return when each list was shown that is not nobody's, (list,)."""
    shown = events.filter(
        pc.and_(
            pc.equal(events[c.EVENT_TYPE], c.IMPRESSION),
            pc.and_(pc.is_valid(events[c.RECOMMENDATION_ID]), pc.is_valid(events[c.SESSION_ID])),
        )
    )
    first = shown.group_by(c.RECOMMENDATION_ID).aggregate([(c.TIMESTAMP, "min")])
    moments: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        first[f"{c.TIMESTAMP}_min"].cast(pa.int64()).to_numpy()
    )
    return moments


def _user_table(attributes: Mapping[str, Mapping[str, str]]) -> pa.Table:
    names = sorted({name for known in attributes.values() for name in known} - {c.USER_ID})
    columns = {c.USER_ID: pa.array(list(attributes), pa.string())}
    columns |= {
        name: pa.array([known.get(name) for known in attributes.values()], pa.string()) for name in names
    }
    return pa.table(columns)
