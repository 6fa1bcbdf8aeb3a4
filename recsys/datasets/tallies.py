"""Counts of (key, value) pairs gathered batch by batch: the most frequent value of a key, or its median."""

import numpy as np
import pyarrow as pa

_FOLD_ROWS = 500_000  # counts kept apart before they are added up


class Tally:
    """How often each pair occurred; memory is bounded by the distinct pairs."""

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self._parts: list[pa.Table] = []

    def add(self, keys: pa.Array, values: pa.Array) -> None:
        """Count pairs; one with a null half does not count."""
        pairs = pa.table([keys, values], names=list(self._names)).drop_null()
        counted = pairs.group_by(list(self._names)).aggregate([([], "count_all")])
        self._parts.append(counted)
        if sum(part.num_rows for part in self._parts) > _FOLD_ROWS:
            self._parts = [self._folded()]

    def most_frequent(self, key: str, value: str) -> pa.Table:
        """Return each key once with its most frequent value, the first in order where two tie."""
        counts = self._folded().sort_by(
            [(key, "ascending"), ("count_all", "descending"), (value, "ascending")]
        )
        return counts.take(_firsts(counts[key])).select([key, value])

    def weighted_median(self, key: str, value: str) -> pa.Table:
        """Return each key once with the (lower) median of its values."""
        counts = self._folded().sort_by([(key, "ascending"), (value, "ascending")])
        if counts.num_rows == 0:
            return counts.select([key, value])
        firsts = _firsts(counts[key]).to_numpy()
        weights = counts["count_all"].to_numpy()
        seen = np.cumsum(weights)
        before = np.concatenate([[0], seen])[firsts]
        totals = np.add.reduceat(weights, firsts)
        middle = np.searchsorted(seen, before + (totals + 1) // 2, side="left")
        return counts.take(pa.array(middle)).select([key, value])

    def _folded(self) -> pa.Table:
        if not self._parts:
            return pa.table(
                {
                    **{name: pa.array([], pa.string()) for name in self._names},
                    "count_all": pa.array([], pa.int64()),
                }
            )
        parts = pa.concat_tables(self._parts)
        summed = parts.group_by(list(self._names)).aggregate([("count_all", "sum")])
        return summed.rename_columns([*self._names, "count_all"])


def _firsts(keys: pa.ChunkedArray) -> pa.Array:
    """Return where each run of equal keys begins."""
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    return pa.array(np.flatnonzero(np.diff(codes, prepend=-1)))
