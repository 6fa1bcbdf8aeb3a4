"""What items without a history are like, against scikit-learn's TF-IDF."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys.candidates.content import NEIGHBOURS, ContentNeighbours
from recsys.catalogue import Catalogue

WORDS = ("red", "blue", "wooden", "woollen", "box", "bag", "tea", "cup")


def catalogue(titles: list[str]) -> Catalogue:
    items = len(titles)
    ids = tuple(f"i{index}" for index in range(items))
    return Catalogue(
        ids, tuple(titles), ((),) * items, np.full(items, np.nan, np.float32), np.ones(items, bool)
    )


@given(seed=st.integers(0, 2**16), known=st.integers(1, NEIGHBOURS), new=st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_means_are_those_of_the_items_that_share_words(seed: int, known: int, new: int) -> None:
    generator = np.random.default_rng(seed)
    titles = [
        " ".join(generator.choice(WORDS, generator.integers(1, 5))) for _ in range(known + new)
    ]  # no more known ones than neighbours: all of them count
    column = generator.standard_normal((known + new, 3)).astype(np.float32)
    order = generator.permutation(known + new)
    among, items = order[:known], order[known:]
    rows = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(titles)
    weights = (rows[items] @ rows[among].T).toarray() ** 2
    total = weights.sum(axis=1, keepdims=True)
    weights = np.where(total > 0, weights / np.maximum(total, 1e-12), 1 / known)
    found = ContentNeighbours(catalogue(titles)).means(items, among, column)
    np.testing.assert_allclose(found, weights @ column[among], rtol=1e-4, atol=1e-5)


def test_only_the_nearest_count() -> None:
    far = [f"cup {word}{index}" for index, word in enumerate(["tea"] * NEIGHBOURS)]
    titles = ["cup saucer", "cup saucer", *far, *(f"cup x y z w{index}" for index in range(9))]
    column = np.zeros((len(titles), 1), np.float32)
    column[2 + NEIGHBOURS :] = 1.0  # longer titles, and so less alike than the twenty before them
    neighbours = ContentNeighbours(catalogue(titles))
    assert neighbours.means(np.array([0]), np.arange(1, len(titles)), column) == pytest.approx(0.0)


def test_an_item_put_live_and_one_of_the_catalogue_are_like_the_same() -> None:
    titles = ["red tea cup", "red tea pot", "blue woollen bag", "red cup"]
    neighbours = ContentNeighbours(catalogue(titles))
    column = np.arange(8, dtype=np.float32).reshape(4, 2)
    like = neighbours.like(titles[3], ())
    others = like.items != 3
    weights = like.weights[others] / like.weights[others].sum()
    found = neighbours.means(np.array([3]), np.arange(3), column)[0]
    np.testing.assert_allclose(found, weights @ column[like.items[others]], rtol=1e-5)
