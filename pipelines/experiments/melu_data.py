"""MovieLens-1M in the partition of the MeLU paper (Lee et al. 2019, §5.1), as tasks and metrics of that protocol.

Films up to 1997 are old items, a random four fifths of the users are old users; which ones, the `melu_split` column of
the ratings says. A task is a user with 13 to 100 ratings in a partition: ten random ratings are the query, the others
the support. Metrics are means over users: absolute error of the rating, and NDCG@3 with gain 2^rating − 1 among the
user's ten (the published figures have a linear gain, under which a random order gets .80).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.preprocessing import MultiLabelBinarizer

from pipelines.experiments.melu_items import Details, read_details
from recsys.errors import UserError
from recsys.evaluation.ranking import tie_order
from recsys.types import FloatArray, IntArray

QUERY, FEWEST, MOST, CUTOFF = 10, 13, 100, 3
WARM = "warm"
COLD = {"user_cold": "new users", "item_cold": "new items", "user_and_item_cold": "new users, new items"}
EARLIER_FILMS = 3
YEARS = (1940, 1950, 1960, 1970, 1980, 1985, 1990, 1993, 1995, 1996, 1997, 1998, 1999)


@dataclass(frozen=True)
class Ratings:
    """Rows of one kind, sorted by user; items and users are codes."""

    user: IntArray
    item: IntArray
    rating: FloatArray

    def __len__(self) -> int:
        return len(self.user)

    def at(self, rows: np.ndarray) -> "Ratings":
        """Return some of the rows."""
        return Ratings(self.user[rows], self.item[rows], self.rating[rows])

    def of_users_with(self, fewest: int, most: int) -> "Ratings":
        """Return the rows of users who have so many of them."""
        have = np.bincount(self.user)[self.user]
        return self.at(np.flatnonzero((have >= fewest) & (have <= most)))

    def by_user(self) -> dict[int, tuple[IntArray, FloatArray]]:
        """Return (items, ratings) of every user."""
        users, first = np.unique(self.user, return_index=True)
        items, ratings = np.split(self.item, first[1:]), np.split(self.rating, first[1:])
        return dict(zip(users.tolist(), zip(items, ratings, strict=True), strict=True))


@dataclass(frozen=True)
class Tasks:
    """Users with what they rated and ten ratings to guess."""

    user: IntArray  # (task,)
    support: list[tuple[IntArray, FloatArray]]  # items, ratings
    item: IntArray  # (task, 10)
    rating: FloatArray  # (task, 10)

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Movies:
    """The log with what is known of items and users beforehand."""

    parts: dict[str, Ratings]
    content: (
        FloatArray  # (item, feature): one, genres, released before each of YEARS, what the item table says
    )
    attributes: IntArray  # (user, attribute), codes from 1
    attribute_sizes: tuple[int, ...]
    year: FloatArray  # (item,)
    earlier: (
        IntArray  # (item, EARLIER_FILMS): the newest films before it of its series, -1 where there is none
    )
    people: (
        IntArray  # (item, most): codes from 1 of who directed it and acts in it, 0 where there is nobody more
    )


def read(folder: Path, items: Path | None = None) -> Movies:
    """Read ratings.parquet (with `melu_split`), movies.tsv and users.tsv, and MeLU's own table of `items` if given.

    Raises UserError if a file is missing or is none of these.
    """
    for name in ("ratings.parquet", "movies.tsv", "users.tsv"):
        if not (folder / name).exists():
            raise UserError(
                f"{folder / name} is missing, must be there; give the folder of MovieLens-1M with --data"
            )
    ratings = pd.read_parquet(folder / "ratings.parquet")
    if "melu_split" not in ratings:
        raise UserError(
            f"{folder / 'ratings.parquet'} has no column melu_split; add the partition of every rating"
        )
    item_ids, item = np.unique(ratings["movie_id"], return_inverse=True)
    user_ids, user = np.unique(ratings["user_id"], return_inverse=True)
    order = np.argsort(user, kind="stable")
    everything = Ratings(
        user[order].astype(np.int32),
        item[order].astype(np.int32),
        ratings["rating"].to_numpy(np.float32)[order],
    )
    split = ratings["melu_split"].to_numpy()[order]
    movies = (
        _table(folder / "movies.tsv", ("movie_id", "title", "genres")).set_index("movie_id").loc[item_ids]
    )
    year = movies["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(float).to_numpy()
    genres = MultiLabelBinarizer().fit_transform(movies["genres"].str.split("|"))
    details = Details.none(len(year)) if items is None else read_details(items, item_ids)
    released = [year < limit for limit in YEARS]
    content = np.column_stack([np.ones(len(year)), genres, *released, details.content]).astype(np.float32)
    people = _table(folder / "users.tsv", ("user_id", "gender", "age", "occupation", "zip"))
    people = people.set_index("user_id").loc[user_ids]
    codes = [np.unique(people[name], return_inverse=True)[1] + 1 for name in ("gender", "age", "occupation")]
    return Movies(
        {name: everything.at(np.flatnonzero(split == name)) for name in (WARM, *COLD)},
        content,
        np.column_stack(codes).astype(np.int64),
        tuple(int(code.max()) for code in codes),
        year,
        films_before(movies["title"].tolist(), year),
        details.people,
    )


def films_before(titles: Sequence[str], year: FloatArray) -> IntArray:
    """Return the newest films before each with the same stem of a title, (film, EARLIER_FILMS), or -1."""
    alike: dict[str, list[int]] = {}
    for film in np.argsort(-year, kind="stable").tolist():
        alike.setdefault(stem(titles[film]), []).append(film)
    found = np.full((len(titles), EARLIER_FILMS), -1, np.int32)
    for name, films in alike.items():
        for film in films if name else []:
            before = [other for other in films if year[other] < year[film]][:EARLIER_FILMS]
            found[film, : len(before)] = before
    return found


def stem(title: str) -> str:
    """Return a title without year, article, subtitle and number: what films of one series share."""
    said = re.sub(r"\s*\([^)]*\)", "", title).lower()
    said = re.split(r":| - ", re.sub(r",\s*(the|a|an)$", "", said.strip()))[0]
    said = re.sub(r"\s+(part|episode|volume|vol)\b.*$", "", said)
    said = re.sub(r"\s+(\d+|[ivx]+)$", "", said.strip())
    return re.sub(r"[^a-z0-9 ]", "", said).strip()


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    with path.open(encoding="utf-8") as lines:
        headed = lines.readline().split("\t")[0] == columns[0]
    return pd.read_csv(path, sep="\t", names=list(columns), header=0 if headed else None, encoding="utf-8")


def tasks(ratings: Ratings, generator: np.random.Generator) -> Tasks:
    """Return a task for every user of 13 to 100 ratings, with a random query."""
    users, support, item, rating = [], [], [], []
    for user, (items, values) in ratings.by_user().items():
        if not FEWEST <= len(items) <= MOST:
            continue
        order = generator.permutation(len(items))
        asked, told = order[:QUERY], order[QUERY:]
        users.append(user)
        item.append(items[asked])
        rating.append(values[asked])
        support.append((items[told], values[told]))
    return Tasks(np.array(users, np.int32), support, np.stack(item), np.stack(rating))


def with_earlier(asked: Tasks, ratings: Ratings, most: int, generator: np.random.Generator) -> Tasks:
    """Return the tasks with up to `most` random ratings that each user has among `ratings` told as well."""
    known, support = ratings.by_user(), []
    for user, (items, values) in zip(asked.user.tolist(), asked.support, strict=True):
        earlier_items, earlier = known.get(user, (items[:0], values[:0]))
        chosen = generator.permutation(len(earlier))[:most]
        support.append(
            (np.concatenate([items, earlier_items[chosen]]), np.concatenate([values, earlier[chosen]]))
        )
    return replace(asked, support=support)


def absolute_error(asked: Tasks, guess: FloatArray, *, whole_stars: bool = False) -> FloatArray:
    """Return the mean |guess − rating| of every task; with `whole_stars` guesses are rounded to one of the five."""
    said = np.clip(np.round(guess), 1, 5) if whole_stars else guess
    return np.abs(said - asked.rating).mean(axis=1).astype(np.float32)


def ndcg3(asked: Tasks, guess: FloatArray) -> FloatArray:
    """Return NDCG@3 of every task, gain 2^rating − 1, ties broken by one permutation of places."""
    ties = tie_order(QUERY, seed=0)
    best = np.lexsort((np.broadcast_to(ties, guess.shape), -guess), axis=1)[:, :CUTOFF]
    gain = 2.0**asked.rating - 1.0
    discount = 1.0 / np.log2(np.arange(CUTOFF) + 2.0)
    ideal = -np.sort(-gain, axis=1)[:, :CUTOFF] @ discount
    return (np.take_along_axis(gain, best, axis=1) @ discount / ideal).astype(np.float32)
