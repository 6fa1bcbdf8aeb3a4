"""From an adapter to sound, unique events in buckets by user: the first two passes over a log.

Pass one validates and spreads the events by event id; pass two, bucket by bucket, refuses duplicates (or
merges the lines of one event) and spreads what is left by user. Memory holds one batch or one bucket, never
the log.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from recsys import columns as c
from recsys.config import LogConfig
from recsys.datasets.adapter import Adapter, EventBatch
from recsys.datasets.parsing import flat
from recsys.errors import UserError
from recsys.logs.buckets import Buckets
from recsys.logs.coded import EVENT_HASH, ITEM_CODE, ROW, TYPE_CODE
from recsys.logs.duplicates import settle
from recsys.logs.hashing import HashArray, hash_strings, salted
from recsys.logs.quarantine import Quarantine
from recsys.logs.validation import refusals
from recsys.logs.vocabulary import Vocabulary

Progress = Callable[[str, int, int], None]  # what is done, rows done, rows expected

MERGED: Final = "lines merged into their event"
_ANONYMOUS: Final = 1  # salt: a session may be called like a user


@dataclass(frozen=True)
class Intake:
    """Sound events, waiting in buckets by user."""

    events: Buckets
    items: Vocabulary  # codes of ITEM_CODE
    event_types: Vocabulary  # codes of TYPE_CODE
    read: int
    removed: dict[str, int]  # cleaning rule -> rows
    impressions: int  # among the events

    @property
    def impression(self) -> int | None:
        """Code of impressions; None if the log has no such type."""
        return _impression(self.event_types)


def take_in(
    adapter: Adapter,
    config: LogConfig,
    items: Vocabulary,
    event_types: Vocabulary,
    scratch: Path,
    quarantine: Quarantine,
    progress: Progress | None,
) -> Intake:
    """Read, validate, deduplicate and spread a log; raises UserError if it is empty or mostly bad."""
    expected = adapter.expected_rows()
    by_id = Buckets(scratch / "by-id", expected, config.rows_per_bucket)
    removed: Counter[str] = Counter()
    read = 0
    for batch in adapter.batches():
        read += batch.read
        removed.update(batch.removed)
        sound, hashes = sound_events(batch, adapter.session_gap_s, items, event_types, quarantine)
        by_id.add(sound, hashes)
        quarantine.check_early(read, config.max_bad_share)
        if progress:
            progress("reading", read, max(expected, read))
    quarantine.check(read, config.max_bad_share)
    require_events(by_id.rows, read, adapter)
    rows = by_id.rows
    by_user = Buckets(scratch / "by-user", rows, config.rows_per_bucket)
    impression, impressions = _impression(event_types), 0
    for table, left in by_id.tables():
        unique, merged = settle(table, adapter.merges_lines, items, event_types, quarantine)
        removed[MERGED] += merged
        if impression is not None:
            impressions += int((flat(unique[TYPE_CODE]).to_numpy() == impression).sum())
        by_user.add(unique, history_hashes(unique))
        if progress:
            progress("deduplicating", rows - left, rows)
    quarantine.check(read, config.max_bad_share)
    by_rule = {rule: count for rule, count in removed.items() if count}
    return Intake(by_user, items, event_types, read, by_rule, impressions)


def require_events(events: int, read: int, adapter: Adapter) -> None:
    """Raise UserError if nothing usable was read."""
    if events == 0:
        raise UserError(
            f"{adapter.source} holds no usable event ({read:,} rows read); check the path and the format"
        )


def _impression(event_types: Vocabulary) -> int | None:
    code: int = event_types.values.index(c.IMPRESSION).as_py()
    return None if code < 0 else code


def sound_events(
    batch: EventBatch,
    session_gap_s: float | None,
    items: Vocabulary,
    event_types: Vocabulary,
    quarantine: Quarantine,
) -> tuple[pa.Table, HashArray]:
    """Return a batch's coded events without those refused, which go to the quarantine, and the hashes of their ids."""
    for refusal in batch.malformed:
        quarantine.refuse(refusal.row, refusal.reason, refusal.text)
    events = batch.events
    item = items.encode(flat(events[c.ITEM_ID]))
    kind = event_types.encode(flat(events[c.EVENT_TYPE]))
    has_names = session_gap_s is None
    reasons, reason = refusals(events, batch.refused, has_names, item < 0, kind < 0)
    bad = np.flatnonzero(reason >= 0)
    if len(bad):
        rows = batch.rows[bad].tolist()
        quarantine.refuse_rows(
            rows, [reasons[number] for number in reason[bad]], batch.raw.take(pa.array(bad))
        )
    table = (
        events.drop_columns([c.ITEM_ID, c.EVENT_TYPE])
        .append_column(ITEM_CODE, pa.array(item))
        .append_column(TYPE_CODE, pa.array(kind.astype(np.int8)))
        .append_column(ROW, pa.array(batch.rows))
    )
    if len(bad):
        table = table.filter(pa.array(reason < 0))
    hashes = hash_strings(table[c.EVENT_ID])
    return table.append_column(EVENT_HASH, pa.array(hashes)), hashes


def history_hashes(events: pa.Table) -> HashArray:
    """Return the hash of each event's history: its user, or the session of an anonymous one."""
    hashes = hash_strings(events[c.USER_ID])
    anonymous = np.flatnonzero(np.asarray(events[c.USER_ID].is_null()))
    if len(anonymous):
        sessions = flat(events[c.SESSION_ID]).take(pa.array(anonymous))
        hashes[anonymous] = salted(hash_strings(sessions), _ANONYMOUS)
    return hashes
