"""Small ratings and impressions in the layouts of MovieLens and Open Bandit."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pcsv
from sample_log import Rows, Sample, as_strings, ordered

from recsys.config import LogConfig

RATINGS: Rows = [
    ("1", "10", "5", "978300760"),
    ("1", "20", "3", "978300770"),  # the same sitting
    ("1", "30", "4", "978400000"),  # another one
    ("2", "10", "1", "978300760"),
    ("2", "20", "many", "978300761"),  # refused
]


def movielens(layout: str) -> Callable[[Path, int | None], Sample]:
    """Return a writer of ratings in one of the archives' layouts."""

    def write(root: Path, shuffle: int | None) -> Sample:
        rows = ordered(RATINGS, shuffle)
        if layout == "100K":
            lines(root / "u.data", rows, "\t")
            flags = ["0"] * 19
            comedy, drama = [*flags], [*flags]
            comedy[5] = drama[8] = "1"
            films = [
                ("10", "Élan (1995)", comedy),
                ("20", 'The "Quoted" One (1996)', drama),
                ("30", "Nameless", flags),
            ]
            movies: Rows = [
                (number, title, "01-Jan-1995", "", "http://x", *genres) for number, title, genres in films
            ]
            lines(root / "u.item", movies, "|")
            lines(
                root / "u.user",
                [("1", "24", "M", "technician", "85711"), ("2", "53", "F", "other", "94043")],
                "|",
            )
        elif layout == "1M":
            lines(root / "ratings.dat", rows, "::")
            films_1m: Rows = [
                ("10", "Élan: Two (1995)", "Comedy"),
                ("20", "Two (1996)", "Drama|War"),
                ("30", "N", ""),
            ]
            lines(root / "movies.dat", films_1m, "::")
            lines(root / "users.dat", [("1", "M", "25", "7", "85711"), ("2", "F", "50", "0", "94043")], "::")
        else:
            pcsv.write_csv(
                as_strings(["userId", "movieId", "rating", "timestamp"], rows), root / "ratings.csv"
            )
            films_csv: Rows = [
                ("10", "Élan, Two (1995)", "Comedy"),
                ("20", "Two", "Drama|War"),
                ("30", "N", "(no genres listed)"),
            ]
            pcsv.write_csv(as_strings(["movieId", "title", "genres"], films_csv), root / "movies.csv")
        log = LogConfig(format="movielens", path=root, max_bad_share=0.5)
        return Sample(log, 5, 4, 3, 3, {"unparsable value": 1})

    return write


def lines(path: Path, rows: Rows, separator: str) -> None:
    """Write rows as the older archives do: no header, no quotes, latin-1."""
    path.write_text(
        "".join(separator.join(str(cell) for cell in row) + "\n" for row in rows), encoding="latin-1"
    )


def open_bandit(root: Path, shuffle: int | None) -> Sample:
    """Write impressions of the random policy, one of them clicked."""
    folder = root / "random" / "men"
    folder.mkdir(parents=True, exist_ok=True)
    names = ["", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0"]
    rows: Rows = [
        ("0", "2019-11-24 00:01:03.979311+00:00", "2", "2", "0", "0.5", "cef"),
        ("1", "2019-11-24 00:01:45.406608+00:00", "0", "3", "1", "0.25", "cef"),
        ("2", "2019-11-24 00:02:45+00:00", "1", "1", "0", "0.25", "ab"),
        ("3", "2019-11-24 00:03:45+00:00", "1", "1", "0", "1.5", "ab"),  # refused
    ]
    pcsv.write_csv(as_strings(names, ordered(rows, shuffle)), folder / "men.csv")
    context: Rows = [(str(item), str(item), str(-0.5 * item), "c82", "088") for item in range(3)]
    pcsv.write_csv(
        as_strings(["", "item_id", "item_feature_0", "item_feature_1", "item_feature_2"], context),
        folder / "item_context.csv",
    )
    log = LogConfig(format="open-bandit", path=folder, max_bad_share=0.5)
    return Sample(log, 4, 4, 1, 3, {"propensity outside (0, 1]": 1})
