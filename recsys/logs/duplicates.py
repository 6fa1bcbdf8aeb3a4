"""Events that share an id: lines of one event are merged, true duplicates refused, by comparing the ids.

Which duplicate stays depends on what the rows say (the earliest, then by content), never on the order of the
file.
"""

import numpy as np
import pyarrow as pa

from recsys import columns as c
from recsys.datasets.parsing import flat
from recsys.logs.coded import ROW, as_events
from recsys.logs.hashing import HashArray, hash_strings, mix
from recsys.logs.quarantine import Quarantine
from recsys.logs.validation import DUPLICATE
from recsys.logs.vocabulary import Vocabulary
from recsys.types import BoolArray, IntArray, LongArray

_DECIMALS = 6  # sums are rounded there, so that they are equal in whatever order they were added


def settle(
    bucket: pa.Table, merges_lines: bool, items: Vocabulary, event_types: Vocabulary, quarantine: Quarantine
) -> tuple[pa.Table, int]:
    """Return a bucket's events, each id once, and how many lines were merged away."""
    hashes = bucket["_hash"].to_numpy()
    bucket = bucket.drop_columns(["_hash"])
    suspects = np.flatnonzero(_shared(hashes))
    if len(suspects) == 0:
        return bucket, 0
    table = bucket.take(pa.array(suspects))
    ids = flat(table[c.EVENT_ID]).dictionary_encode().indices.to_numpy()
    shown = as_events(table, items.values, event_types.values)
    content = _content(shown)
    times = flat(table[c.TIMESTAMP]).cast(pa.int64()).to_numpy()
    order = np.lexsort((flat(table[ROW]).to_numpy(), content, times, ids))
    first = np.diff(ids[order], prepend=-1) != 0
    stays = np.ones(bucket.num_rows, dtype=np.bool_)
    stays[suspects[order[~first]]] = False
    merged = 0
    if merges_lines:
        bucket = _with_sums(bucket, table, ids, suspects[order[first]])
        merged = int((~first).sum())
    elif not first.all():
        again = pa.array(order[~first])
        kept = order[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))][~first]
        rows, stay = (table[ROW].take(pa.array(which)).to_pylist() for which in (again, kept))
        quarantine.refuse_rows(rows, [DUPLICATE] * len(again), shown.take(again), stay)
    return bucket.filter(pa.array(stays)), merged


def _shared(hashes: HashArray) -> BoolArray:
    """Return which rows share their hash with another: the only ones whose ids need comparing."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(len(hashes), dtype=np.bool_)
    shared[order[1:]] = same
    shared[order[:-1]] |= same
    return shared


def _content(table: pa.Table) -> HashArray:
    """Return a hash of what each row says."""
    hashes = np.zeros(table.num_rows, dtype=np.uint64)
    for name in table.column_names:
        hashes = mix(hashes ^ hash_strings(flat(table[name]).cast(pa.string())))
    return hashes


def _with_sums(bucket: pa.Table, table: pa.Table, ids: IntArray, kept: LongArray) -> pa.Table:
    """Return the bucket with the kept row of each id worth the sum of its lines."""
    values = flat(table[c.VALUE]).to_numpy(zero_copy_only=False)
    order = np.lexsort((values, ids))
    starts = np.flatnonzero(np.diff(ids[order], prepend=-1) != 0)
    sums = np.round(np.add.reduceat(np.nan_to_num(values[order]), starts), _DECIMALS)
    column = flat(bucket[c.VALUE]).to_numpy(zero_copy_only=False).copy()
    none = np.isnan(column)
    column[kept] = sums
    none[kept] = False
    place = bucket.column_names.index(c.VALUE)
    return bucket.set_column(place, c.VALUE, pa.array(column, mask=none))
