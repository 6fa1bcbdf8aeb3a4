"""MovieLens in its official layouts, told apart by their files: 100K, 1M (and 10M), latest (and 20M … 32M).

A rating is an event whose value is the stars; a sitting ends after half an hour without a rating.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets import movielens_layouts as layouts
from recsys.datasets.adapter import EventBatch
from recsys.datasets.canonical import BAD_TIME, BAD_VALUE, canonical, constant
from recsys.datasets.parsing import as_number, as_text, as_time
from recsys.datasets.sources import SourceBatch, expected_rows

_SITTING_S: Final = 30 * 60.0
_YEAR: Final = r"\((?P<year>\d{4})\)\s*$"


class MovieLensAdapter:
    """Reads ratings, movies and, in the older archives, users."""

    merges_lines = False
    session_gap_s = _SITTING_S

    def __init__(self, root: Path, batch_rows: int) -> None:
        self._root = root
        self._batch_rows = batch_rows
        self._layout = layouts.detect(root)
        self.source = f"MovieLens {self._layout.name}, {root}"

    def expected_rows(self) -> int:
        """Return a guess of the number of ratings."""
        return expected_rows(self._root / self._layout.ratings)

    def batches(self) -> Iterator[EventBatch]:
        """Stream the ratings."""
        for batch in layouts.ratings(self._root, self._layout, self._batch_rows):
            yield _events(batch)

    def items(self) -> pa.Table:
        """Return the movies: title, genres, and the year that the title ends in."""
        table = layouts.movies(self._root, self._layout)
        title = as_text(table["title"])
        year = pc.struct_field(pc.extract_regex(title, _YEAR), "year")
        return pa.table(
            {
                c.ITEM_ID: as_text(table["movieId"]),
                c.TITLE: pc.replace_substring_regex(title, r"\s*\(\d{4}\)\s*$", ""),
                c.CATEGORIES: table["genres"],
                "year": as_number(year)[0],
            }
        )

    def users(self) -> pa.Table | None:
        """Return age, gender, occupation and the first character of the postal code, all categorical."""
        table = layouts.users(self._root, self._layout)
        if table is None:
            return None
        age = as_text(table["age"])
        if self._layout.name == "100K":  # ages in years; the later archives give groups
            age = pc.binary_join_element_wise(
                pc.utf8_slice_codeunits(pc.utf8_lpad(age, 2, "0"), 0, 1), "0s", ""
            )
        return pa.table(
            {
                c.USER_ID: as_text(table["user_id"]),
                "age": age,
                "gender": as_text(table["gender"]),
                "occupation": as_text(table["occupation"]),
                "zip_area": pc.utf8_slice_codeunits(as_text(table["zip"]), 0, 1),
            }
        )


def _events(batch: SourceBatch) -> EventBatch:
    table, rows = batch.table, batch.table.num_rows
    user, item = as_text(table["userId"]), as_text(table["movieId"])
    time, bad_time = as_time(table["timestamp"], unit="s")
    value, bad_value = as_number(table["rating"])
    events = canonical(
        {
            c.EVENT_ID: pc.binary_join_element_wise(user, item, "-"),
            c.USER_ID: user,
            c.TIMESTAMP: time,
            c.ITEM_ID: item,
            c.EVENT_TYPE: constant(c.RATING, rows),
            c.VALUE: value,
        },
        rows,
    )
    refused = {BAD_TIME: bad_time, BAD_VALUE: bad_value}
    return EventBatch(events, batch.rows, table, batch.read, refused, malformed=batch.malformed)
