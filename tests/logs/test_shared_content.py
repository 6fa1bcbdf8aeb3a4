"""The shared content space: one word, one direction, in whatever catalogue it stands."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.logs.shared_content import directions, item_words, shared_content


def table(titles, categories=None, **columns):
    data = {"item_id": [str(place) for place in range(len(titles))], "title": titles}
    if categories is not None:
        data["categories"] = pa.array(categories, pa.list_(pa.string()))
    return pa.table({**data, **columns})


def test_a_word_has_one_direction_in_every_catalogue():
    one = shared_content(table(["tea"]), 96)
    other = shared_content(table(["coffee", "tea", None]), 96)
    assert one[0] == pytest.approx(other[1], abs=1e-6)
    assert not other[2].any()
    assert np.linalg.norm(other[:2], axis=1) == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_category_says_what_the_same_word_in_a_title_says():
    vectors = shared_content(table(["frozen pizza", None], [None, ["Frozen Pizza"]]), 64)
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-6)


def test_directions_are_nearly_orthogonal_and_wide_ones_more_so():
    words = [f"word{number}" for number in range(200)]
    for width in (64, 70, 1024):
        vectors = directions(words, width)
        assert vectors.shape == (200, width)
        gram = vectors @ vectors.T
        assert np.diag(gram) == pytest.approx(np.ones(200))
        apart = gram[~np.eye(200, dtype=bool)]
        assert np.sqrt((apart**2).mean()) == pytest.approx(1 / np.sqrt(width), rel=0.1)


def test_rare_words_count_more_and_numbers_stand_beside_them():
    titles = ["red cup", "red bowl", "red plate", "blue cup"]
    vectors = shared_content(table(titles), 2048)
    assert vectors[0] @ vectors[3] > vectors[0] @ vectors[1]  # cup is rarer than red
    priced = shared_content(table(titles, price=[1.0, 2.0, 50.0, 100.0]), 2048)
    price = directions(["number:price"], 2048)[0]
    assert (np.diff(priced @ price) > 0).all()


def test_new_items_are_weighed_as_the_items_they_are_fitted_on():
    known = table(["red cup", "red bowl", "blue cup"])
    new = table(["red cup", "green cup"])
    vectors = shared_content(new, 128, known)
    assert vectors[0] == pytest.approx(shared_content(known, 128)[0], abs=1e-6)


def test_words_are_counted_by_item():
    words, counts = item_words(table(["tea tea pot", ""], [["tea"], None]))
    assert words == ["pot", "tea"]
    assert counts.toarray().tolist() == [[1, 3], [0, 0]]
