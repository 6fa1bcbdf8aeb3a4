"""Rows spread over files by ranges of a hash, so that a log of any size is sorted one bucket at a time.

Buckets come back in the order of the hash, whatever their number: sorting each of them sorts the whole.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.logs.hashing import HashArray

_ALL = 1 << 64
_MOST_FILES = 256  # open at once


class Buckets:
    """Files of one table, each holding the rows whose hash lies in one range.

    Rows are added with `add`, then read once, bucket by bucket, with `tables`. A bucket that came out too
    large is spread again, except where all its rows share one hash (one user): that many rows are held at
    once.
    """

    def __init__(
        self, folder: Path, expected_rows: int, rows_per_bucket: int, low: int = 0, high: int = _ALL
    ) -> None:
        self._folder = folder
        self._rows_per_bucket = rows_per_bucket
        # a quarter more files than needed: ranges of a hash are filled unevenly
        count = min(max(-(-expected_rows * 5 // (4 * rows_per_bucket)), 1), _MOST_FILES, high - low)
        self._bounds = [low + step * (high - low) // count for step in range(count + 1)]
        self._edges = np.array(self._bounds[1:-1], dtype=np.uint64)
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._rows = [0] * count
        self._least = [_ALL] * count
        self._most = [-1] * count
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return sum(self._rows)

    def add(self, table: pa.Table, hashes: HashArray) -> None:
        """Append rows, each to the bucket of its hash."""
        if table.num_rows == 0:
            return
        if len(self._rows) == 1:
            self._append(0, table, hashes)
            return
        bucket = np.searchsorted(self._edges, hashes, side="right").astype(np.int16)
        order = np.argsort(bucket, kind="stable")
        spread = table.take(pa.array(order))
        ends = np.cumsum(np.bincount(bucket, minlength=len(self._rows)))
        for number in np.unique(bucket):
            begin = int(ends[number - 1]) if number else 0
            end = int(ends[number])
            self._append(int(number), spread.slice(begin, end - begin), hashes[order[begin:end]])

    def tables(self) -> Iterator[tuple[pa.Table, int]]:
        """Yield each bucket with the rows left after it, in the order of the hash, removing its file."""
        for writer in self._writers.values():
            writer.close()
        left = self.rows
        for number, rows in enumerate(self._rows):
            if rows == 0:
                continue
            path = self._path(number)
            if rows > self._rows_per_bucket and self._least[number] < self._most[number]:
                for table, inner_left in self._spread_again(number).tables():
                    yield table, left - rows + inner_left
                left -= rows
                continue
            with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
                table = reader.read_all()
            path.unlink()
            left -= rows
            yield table.combine_chunks(), left

    def _append(self, number: int, table: pa.Table, hashes: HashArray) -> None:
        table = table.append_column("_hash", pa.array(hashes))
        if number not in self._writers:
            self._writers[number] = pa.ipc.new_stream(str(self._path(number)), table.schema)
        self._writers[number].write_table(table)
        self._rows[number] += table.num_rows
        self._least[number] = min(self._least[number], int(hashes.min()))
        self._most[number] = max(self._most[number], int(hashes.max()))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:03d}.arrow"

    def _spread_again(self, number: int) -> "Buckets":
        path = self._path(number)
        finer = Buckets(
            self._folder / f"{number:03d}",
            self._rows[number] * 2,
            self._rows_per_bucket,
            self._least[number],
            self._most[number] + 1,
        )
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                hashes = table["_hash"].to_numpy()
                finer.add(table.drop_columns(["_hash"]), hashes)
        path.unlink()
        return finer
