"""Rating baselines of the MeLU protocol: user and item bias, and item-kNN on what biases leave over.

The rating of a new item starts from a ridge regression of item biases on content, on who made it, and on the bias of
earlier films of its series. Settings are chosen on the tasks of validation users and validation items, as the head's
are.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse

from pipelines.experiments.melu_data import FEWEST, Movies, Ratings, Tasks, absolute_error
from recsys.types import FloatArray, IntArray

ITEM_SHRINKS, USER_SHRINKS, RIDGES = (2.0, 5.0, 10.0), (1.0, 3.0, 6.0), (1.0, 3.0, 10.0, 30.0)
ROUNDS = 6  # item and user biases in turn: who rates leniently makes no film better
TRUSTED = 100  # ratings at which the ridge believes a film's bias by half
SERIES_SCALE, PERSON_SCALE = 3.0, 0.7  # against a genre's 1: what is larger is shrunk less
NEIGHBOURS, SIMILARITY_SHRINKS = (20, 30, 60), (10.0, 50.0, 100.0)

BiasSettings = tuple[float, float, float, int | None]  # shrinkage of items and users, ridge, whose ratings


@dataclass(frozen=True)
class Biases:
    """b(u, i) = μ + b_i + b_u, shrunk means; b_i of an item without ratings is what its content says."""

    item: FloatArray  # μ + b_i, (item,)
    settings: BiasSettings

    @staticmethod
    def fit(ratings: Ratings, movies: Movies, settings: BiasSettings) -> "Biases":
        """Return the biases of a set of ratings."""
        item_shrink, user_shrink, ridge, most = settings
        if most is not None:
            ratings = ratings.of_users_with(FEWEST, most)
        mean = float(ratings.rating.mean())
        bias, count = item_biases(ratings, mean, len(movies.content), item_shrink, user_shrink)
        known = count > 0
        content = describing(movies, bias, known)
        weight = np.sqrt(count[known] / (count[known] + TRUSTED))
        seen, said = content[known] * weight[:, None], bias[known] * weight
        wide = seen.shape[1] > len(seen)  # then the dual is the smaller system, and the same slope
        gram = seen @ seen.T if wide else seen.T @ seen
        gram[np.diag_indices_from(gram)] += ridge
        slope = seen.T @ np.linalg.solve(gram, said) if wide else np.linalg.solve(gram, seen.T @ said)
        return Biases((mean + np.where(known, bias, content @ slope)).astype(np.float32), settings)

    def user(self, asked: Tasks) -> FloatArray:
        """Return b_u of every task, (task,)."""
        return np.array(
            [
                (values - self.item[items]).sum() / (len(items) + self.settings[1])
                for items, values in asked.support
            ],
            np.float32,
        )

    def guess(self, asked: Tasks) -> FloatArray:
        """Return b(u, i) of every query, (task, 10)."""
        guessed: FloatArray = self.item[asked.item] + self.user(asked)[:, None]
        return guessed


def item_biases(
    ratings: Ratings, mean: float, items: int, item_shrink: float, user_shrink: float
) -> tuple[FloatArray, IntArray]:
    """Return b_i, fitted in turn with b_u, and how often each item was rated, (item,)."""
    count, rated = np.bincount(ratings.item, minlength=items), np.bincount(ratings.user)
    user = np.zeros(len(rated))
    for _ in range(ROUNDS):
        left = ratings.rating - mean - user[ratings.user]
        bias = np.bincount(ratings.item, weights=left, minlength=items) / (count + item_shrink)
        left = ratings.rating - mean - bias[ratings.item]
        user = np.bincount(ratings.user, weights=left) / (rated + user_shrink)
    return bias, count


def describing(movies: Movies, bias: FloatArray, known: np.ndarray) -> FloatArray:
    """Return what tells a new item's bias, (item, column): content, people, films before it of its series."""
    people = np.zeros((len(bias), int(movies.people.max(initial=0)) + 1))
    people[np.arange(len(bias))[:, None], movies.people] = PERSON_SCALE  # column 0 is nobody
    series = (movies.earlier >= 0) & known[movies.earlier]
    before = (bias[movies.earlier] * series).sum(axis=1) / np.maximum(series.sum(axis=1), 1)
    return np.column_stack([movies.content, people[:, 1:], series.any(axis=1), SERIES_SCALE * before])


@dataclass(frozen=True)
class ItemKnn:
    """b(u, i) + Σ_j s_ij (r_uj − b(u, j)) / Σ_j |s_ij| over the most similar rated items (Koren 2008, eq. 3)."""

    biases: Biases
    similarity: FloatArray  # (item, item), shrunk cosine of residuals
    settings: tuple[int, float]  # neighbours, shrinkage

    @staticmethod
    def fit(ratings: Ratings, biases: Biases, settings: tuple[int, float]) -> "ItemKnn":
        """Return the neighbourhoods of a set of ratings."""
        users, row = np.unique(ratings.user, return_inverse=True)
        left = ratings.rating - biases.item[ratings.item]
        total, count = np.bincount(row, weights=left), np.bincount(row)
        left = left - (total / (count + biases.settings[1]))[row]
        shape = (len(users), len(biases.item))
        matrix = sparse.csr_matrix((left, (row, ratings.item)), shape=shape)
        seen = sparse.csr_matrix((np.ones(len(row)), (row, ratings.item)), shape=shape)
        products, both = (matrix.T @ matrix).toarray(), (seen.T @ seen).toarray()
        norm = np.sqrt(np.diag(products)) + 1e-9
        similarity = products / np.outer(norm, norm) * both / (both + settings[1])
        return ItemKnn(biases, similarity.astype(np.float32), settings)

    def guess(self, asked: Tasks) -> FloatArray:
        """Return the guess of every query, (task, 10)."""
        user, guess = self.biases.user(asked), self.biases.guess(asked)
        for task, (items, values) in enumerate(asked.support):
            left = values - self.biases.item[items] - user[task]
            near = self.similarity[asked.item[task]][:, items]
            best = np.argsort(-np.abs(near), axis=1)[:, : self.settings[0]]
            weight = np.take_along_axis(near, best, axis=1)
            guess[task] += (weight * left[best]).sum(axis=1) / (np.abs(weight).sum(axis=1) + 1e-3)
        return guess


def tuned_biases(ratings: Ratings, movies: Movies, judged: Tasks, most: int | None) -> Biases:
    """Return the biases that err least on validation tasks, learnt from users of so many ratings at most."""
    grid = product(ITEM_SHRINKS, USER_SHRINKS, RIDGES, (most,))
    return min((Biases.fit(ratings, movies, choice) for choice in grid), key=lambda made: error(made, judged))


def tuned_item_knn(ratings: Ratings, biases: Biases, judged: Tasks) -> ItemKnn:
    """Return the neighbourhoods that err least on validation tasks."""
    grid = product(NEIGHBOURS, SIMILARITY_SHRINKS)
    return min(
        (ItemKnn.fit(ratings, biases, choice) for choice in grid), key=lambda made: error(made, judged)
    )


def error(made: Biases | ItemKnn, judged: Tasks) -> float:
    """Return the mean absolute error."""
    return float(absolute_error(judged, made.guess(judged)).mean())
