"""An earlier prepared log and what has happened since, read as one log in which everything known keeps its place.

Events of the earlier log come from its event table, new ones from event tables (a Parquet file, a folder of them, or a
folder with `events.parquet` and, if there are some, `items.parquet` and `users.parquet`). Item indices, codes of user
attributes and content vectors of known items are those of the earlier log; new items stand behind. A new event whose id
the earlier log has is the same event once more and counts once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.config import PrepareConfig
from recsys.datasets.adapter import EventBatch
from recsys.datasets.parsing import flat
from recsys.datasets.tables import TablesAdapter
from recsys.errors import UserError
from recsys.logs.catalogue import item_table, named_items
from recsys.logs.hashing import HashArray, hash_strings
from recsys.logs.item_content import item_content
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.logs.session_names import name_by_silence
from recsys.types import FloatArray

ALREADY_KNOWN = "already in the earlier log"
FITTED_ITEMS = "fitted_items.parquet"  # items that the content vectors were fitted on, where they are not all


class ContinuedLog:
    """An adapter over the earlier log and the new event tables."""

    merges_lines = False
    session_gap_s = None

    def __init__(self, earlier: Path, logs: Sequence[Path], session_gap_s: float, batch_rows: int) -> None:
        self.earlier: PreparedLog = open_prepared(earlier)
        self.new = [_tables(path, batch_rows) for path in logs]
        self._old = TablesAdapter(earlier, batch_rows)
        self._gap_s = session_gap_s
        self.source = f"{self.earlier.info.source}; then {', '.join(each.source for each in self.new)}"

    def expected_rows(self) -> int:
        """Return the number of rows, earlier and new."""
        return self._old.expected_rows() + sum(each.expected_rows() for each in self.new)

    def batches(self) -> Iterator[EventBatch]:
        """Stream the earlier events, then the new ones that the earlier log does not have."""
        before = 0
        for batch in self._old.batches():
            before += batch.read
            yield batch
        known = self._known_events()
        for adapter in self.new:
            first = before
            names = name_by_silence(adapter.columns([c.USER_ID, c.SESSION_ID, c.TIMESTAMP]), self._gap_s)
            place = 0
            for batch in adapter.batches():
                events = batch.events
                named = names.slice(place, events.num_rows)
                events = events.set_column(events.column_names.index(c.SESSION_ID), c.SESSION_ID, named)
                place += events.num_rows
                before += batch.read
                fresh = np.flatnonzero(~np.isin(hash_strings(events[c.EVENT_ID]), known))
                rows = pa.array(fresh)
                yield EventBatch(
                    events.take(rows),
                    batch.rows[fresh] + first,
                    batch.raw.take(rows),
                    batch.read,
                    {reason: mask[fresh] for reason, mask in batch.refused.items()},
                    {ALREADY_KNOWN: events.num_rows - len(fresh)},
                    tuple(replace(each, row=each.row + first) for each in batch.malformed),
                )

    def items(self) -> pa.Table:
        """Return the known items in their order, as the new tables describe them if they do; then new ones by id."""
        known = pq.read_table(self.earlier.root / "items.parquet")
        for adapter in self.new:
            told = item_table(adapter.items(), adapter.source)
            named = pc.unique(adapter.columns([c.ITEM_ID])[c.ITEM_ID]).drop_null()
            known = _behind(known if told is None else _updated(known, told, c.ITEM_ID), named)
        return known.combine_chunks()

    def users(self) -> pa.Table:
        """Return the known users, as the new tables describe them if they do, and the new ones."""
        known = pq.read_table(self.earlier.root / "users.parquet")
        for adapter in self.new:
            told = adapter.users()
            if told is not None:
                known = _updated(known, told, c.USER_ID)
        return known.combine_chunks()

    def content(self, items: pa.Table, config: PrepareConfig, seed: int) -> FloatArray:
        """Return content vectors of all items: known ones as they were, new ones in the same space."""
        before = np.array(self.earlier.content)
        new = items.slice(len(before))
        if not new.num_rows:
            return before
        fitted = pq.read_table(self.fitted_items)
        return np.concatenate([before, item_content(new, config, seed, fitted)])

    @property
    def fitted_items(self) -> Path:
        """The item table that the content vectors were fitted on."""
        handed_down = self.earlier.root / FITTED_ITEMS
        return handed_down if handed_down.is_file() else self.earlier.root / "items.parquet"

    @cached_property
    def first_new_second(self) -> int:
        """The second of the earliest new event, whatever became of it; raises UserError if there is none."""
        times = [
            adapter.columns([c.TIMESTAMP])[c.TIMESTAMP].cast(pa.timestamp("us", "UTC"))
            for adapter in self.new
        ]
        earliest = [pc.min(column).cast(pa.int64()).as_py() for column in times]
        told = [each for each in earliest if each is not None]
        if not told:
            raise UserError(
                f"no new event in {', '.join(each.source for each in self.new)}; export some first"
            )
        return int(min(told) // 1_000_000)

    def _known_events(self) -> HashArray:
        hashes = [hash_strings(flat(batch.events[c.EVENT_ID])) for batch in self._old.batches()]
        return np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)


def _tables(path: Path, batch_rows: int) -> TablesAdapter:
    """Return the event tables at a path."""
    if path.is_file():
        return TablesAdapter(path.parent, batch_rows, parts=[path])
    if path.is_dir() and not (path / "events").is_dir() and not (path / "events.parquet").is_file():
        parts = sorted(path.glob("*.parquet"))
        if parts:
            return TablesAdapter(path, batch_rows, parts=parts)
    if not path.is_dir():
        raise UserError(
            f"no new events at {path}; give a Parquet file, a folder of them, or a folder of tables"
        )
    return TablesAdapter(path, batch_rows)


def _updated(known: pa.Table, told: pa.Table, key: str) -> pa.Table:
    """Return the known rows with what a later table says of them, and that table's other rows behind, by key."""
    row = pc.index_in(flat(known[key]), value_set=flat(told[key]))
    columns = {}
    for name in dict.fromkeys([*known.column_names, *told.column_names]):
        if name not in told.column_names:
            columns[name] = flat(known[name])
            continue
        later = flat(told[name]).take(row)
        if name not in known.column_names:
            columns[name] = later
            continue
        before = flat(known[name])
        columns[name] = pc.coalesce(later.cast(before.type), before)
    other = told.filter(pc.invert(pc.is_in(flat(told[key]), value_set=flat(known[key])))).sort_by(key)
    return pa.concat_tables([pa.table(columns), other], promote_options="permissive")


def _behind(known: pa.Table, ids: pa.Array) -> pa.Table:
    """Return the items with those behind that are only named."""
    unnamed = ids.filter(pc.invert(pc.is_in(ids, value_set=flat(known[c.ITEM_ID]))))
    if not len(unnamed):
        return known
    return pa.concat_tables([known, named_items(unnamed.sort())], promote_options="permissive")
