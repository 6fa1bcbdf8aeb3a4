"""The official MovieLens layouts, told apart by their file names, and how each writes its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.adapter import Refusal
from recsys.datasets.sources import CsvStyle, SourceBatch, read_all, require_columns, stream
from recsys.errors import UserError

_RATING: Final = ("userId", "movieId", "rating", "timestamp")
_USER: Final = ("user_id", "age", "gender", "occupation", "zip")
_GENRES: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_TABS: Final = CsvStyle(delimiter="\t", quoted=False, encoding="latin-1", names=_RATING)
_BARS: Final = CsvStyle(delimiter="|", quoted=False, encoding="latin-1")
_LINES: Final = CsvStyle(delimiter="\x01", quoted=False, encoding="latin-1", names=("line",))
_SEPARATOR: Final = "::"


@dataclass(frozen=True)
class Layout:
    """Where one of the published archives keeps its tables."""

    name: str
    ratings: str
    movies: str
    users: str | None


LAYOUTS: Final = (
    Layout("100K", "u.data", "u.item", "u.user"),
    Layout("1M", "ratings.dat", "movies.dat", "users.dat"),
    Layout("latest", "ratings.csv", "movies.csv", None),
)


def detect(root: Path) -> Layout:
    """Return the layout of a folder; raises UserError if it has none of them, or half of one."""
    if not root.is_dir():
        raise UserError(f"no folder at {root}; give the folder into which a MovieLens archive was unpacked")
    for layout in LAYOUTS:
        if (root / layout.ratings).is_file():
            if not (root / layout.movies).is_file():
                raise UserError(f"{root} has {layout.ratings} but no {layout.movies}; put both files there")
            return layout
    wanted = " or ".join(layout.ratings for layout in LAYOUTS)
    raise UserError(f"{root} has no {wanted}; give the folder into which a MovieLens archive was unpacked")


def ratings(root: Path, layout: Layout, batch_rows: int) -> Iterator[SourceBatch]:
    """Yield the ratings with the columns userId, movieId, rating, timestamp, all text."""
    path = root / layout.ratings
    if layout.name == "100K":
        yield from stream(path, batch_rows, _TABS)
    elif layout.name == "1M":
        for batch in stream(path, batch_rows, _LINES):
            yield _split(batch, _RATING)
    else:
        for batch in stream(path, batch_rows):
            require_columns(batch.table.column_names, _RATING, path, "give the archive's own file")
            yield batch


def movies(root: Path, layout: Layout) -> pa.Table:
    """Return the movies with the columns movieId, title and genres (a list)."""
    path = root / layout.movies
    if layout.name == "100K":
        names = ("movieId", "title", "released", "video", "url", *_GENRES)
        table = read_all(path, CsvStyle(**{**_BARS.__dict__, "names": names}))
        flags = np.stack(
            [np.asarray(pc.equal(table[genre], "1").combine_chunks()) for genre in _GENRES], axis=1
        )
        movie, genre = np.nonzero(flags)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(movie, minlength=table.num_rows))])
        lists = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), pa.array(_GENRES).take(pa.array(genre))
        )
        return pa.table({"movieId": table["movieId"], "title": table["title"], "genres": lists})
    columns = ("movieId", "title", "genres")
    table = _all_lines(path, columns) if layout.name == "1M" else read_all(path)
    require_columns(table.column_names, columns, path, "give the archive's own file")
    none = pc.is_in(table["genres"], value_set=pa.array(["", "(no genres listed)"]))
    genres = pc.split_pattern(pc.if_else(none, pa.scalar(None, pa.string()), table["genres"]), "|")
    return pa.table({"movieId": table["movieId"], "title": table["title"], "genres": genres})


def users(root: Path, layout: Layout) -> pa.Table | None:
    """Return the users with the columns user_id, age, gender, occupation, zip, where the archive has them."""
    if layout.users is None or not (root / layout.users).is_file():
        return None
    path = root / layout.users
    if layout.name == "100K":
        return read_all(path, CsvStyle(**{**_BARS.__dict__, "names": _USER}))
    table = _all_lines(path, ("user_id", "gender", "age", "occupation", "zip"))
    return table.select(list(_USER))


def _all_lines(path: Path, names: Sequence[str]) -> pa.Table:
    parts = []
    for batch in stream(path, 65_536, _LINES):
        split = _split(batch, names)
        if split.malformed:
            first = split.malformed[0]
            raise UserError(f"{path} row {first.row}: {first.reason}; mend that row")
        parts.append(split.table)
    return pa.concat_tables(parts)


def _split(batch: SourceBatch, names: Sequence[str]) -> SourceBatch:
    """Return the columns of lines `a::b::c`; a line with another number of fields is malformed."""
    fields = pc.split_pattern(batch.table["line"].combine_chunks(), _SEPARATOR)
    right = np.asarray(pc.fill_null(pc.equal(pc.list_value_length(fields), len(names)), False))
    wrong = np.flatnonzero(~right)
    malformed = tuple(
        Refusal(int(batch.rows[place]), "wrong number of columns", str(batch.table["line"][int(place)]))
        for place in wrong
    )
    fields = fields.filter(pa.array(right))
    table = pa.table({name: pc.list_element(fields, place) for place, name in enumerate(names)})
    return SourceBatch(table, batch.rows[right], batch.malformed + malformed)
