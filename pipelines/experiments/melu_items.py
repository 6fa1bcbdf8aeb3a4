"""What a film is beyond its title and genres: the item table that the authors of MeLU publish with their code.

Lines of `movie_id::title::year::rate::released::genres::director::writer::actors::plot::poster`, in UTF-8. Taken are
the four columns that the paper names (§5.1): the age rating, genres, directors and actors. Directors and actors of one
film alone say nothing of another and are left out.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from sklearn.preprocessing import LabelBinarizer, MultiLabelBinarizer

from recsys.errors import UserError
from recsys.types import FloatArray, IntArray

COLUMNS, RATE, GENRES, DIRECTORS, ACTORS = 11, 3, 5, 6, 8
UNKNOWN, FEWEST_FILMS = "N/A", 2


@dataclass(frozen=True)
class Details:
    """What the table says of films, in the order asked for."""

    content: FloatArray  # (item, column): age rating and genres, one or zero
    people: IntArray  # (item, most): codes from 1, 0 where there is nobody more

    @staticmethod
    def none(items: int) -> "Details":
        """Return what is known where there is no table."""
        return Details(np.zeros((items, 0), np.float32), np.zeros((items, 0), np.int32))


def read_details(path: Path, item_ids: IntArray) -> Details:
    """Read the table for some films; films that it lacks have nothing; raises UserError if it is no such table."""
    if not path.exists():
        raise UserError(
            f"{path} is missing, must be the item table of MeLU; leave --items out to do without it"
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("::") for line in lines if line]
    for number, row in enumerate(rows, 1):
        if len(row) != COLUMNS or not row[0].isdigit():
            raise UserError(
                f"{path}: line {number} has {len(row)} columns and the id {row[0]!r}, must have {COLUMNS} parted by "
                "'::' and a number; give movies_extrainfos.dat as MeLU's authors publish it"
            )
    known = {int(row[0]): row for row in rows}
    nothing = [UNKNOWN] * COLUMNS
    films = [known.get(int(item), nothing) for item in item_ids]
    rate = LabelBinarizer().fit_transform([film[RATE] for film in films])
    genres = MultiLabelBinarizer().fit_transform([_names(film[GENRES]) for film in films])
    # someone who directs and acts is two: a liking for the one is none for the other
    cast = [
        [("directs", name) for name in _names(film[DIRECTORS])]
        + [("acts", name) for name in _names(film[ACTORS])]
        for film in films
    ]
    return Details(np.column_stack([rate, genres]).astype(np.float32), coded(cast))


def coded(cast: list[list[tuple[str, str]]]) -> IntArray:
    """Return a code from 1 for everybody of FEWEST_FILMS films and more, (film, most), padded with 0."""
    films_of = Counter(chain.from_iterable(cast))
    code = {
        who: number
        for number, who in enumerate((w for w, films in films_of.items() if films >= FEWEST_FILMS), 1)
    }
    found = [[code[who] for who in film if who in code] for film in cast]
    people = np.zeros((len(cast), max(map(len, found), default=0)), np.int32)
    for film, codes in zip(people, found, strict=True):
        film[: len(codes)] = codes
    return people


def _names(text: str) -> list[str]:
    return [] if text == UNKNOWN else sorted({name.strip() for name in text.split(",")})
