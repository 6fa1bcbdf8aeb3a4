"""Content vectors: alike where words and tokens agree, zero where there is nothing, the same each time."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.logs.content import content_features

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["red wooden train", "blue wooden train", "porcelain tea cup", "porcelain tea pot", None],
        "categories": pa.array([["toys"], ["toys"], ["kitchen"], ["kitchen"], None], pa.list_(pa.string())),
        "brand": ["acme", "acme", "royal", "royal", None],
    }
)


def cosine(one, other):
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_items_of_a_kind_are_alike_and_lengths_are_one():
    vectors = content_features(ITEMS, 4, seed=7)
    assert vectors.shape == (5, 4)
    assert vectors.dtype == np.float32
    assert cosine(vectors[0], vectors[1]) > 0.5 > cosine(vectors[0], vectors[2])
    assert np.linalg.norm(vectors[:4], axis=1) == pytest.approx(np.ones(4), abs=1e-6)


def test_an_item_without_content_is_zero():
    assert not content_features(ITEMS, 4, seed=7)[4].any()


def test_numbers_take_the_last_columns_and_a_missing_one_is_the_mean():
    priced = ITEMS.append_column("price", pa.array([1.0, 10.0, 100.0, None, 1000.0]))
    vectors = content_features(priced, 4, seed=7)
    assert (np.diff(vectors[[0, 1, 2], 3]) > 0).all()
    assert vectors[3, 3] == 0
    assert abs(vectors[4, 3]) == pytest.approx(1.0)  # nothing else is known of it
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_columns_that_say_nothing_add_nothing():
    dull = ITEMS.append_column("weight", pa.array([2.0] * 5)).append_column("available", pa.array([True] * 5))
    assert content_features(dull, 4, seed=7).tobytes() == content_features(ITEMS, 4, seed=7).tobytes()


def test_a_second_computation_gives_the_same_bytes():
    assert content_features(ITEMS, 4, seed=7).tobytes() == content_features(ITEMS, 4, seed=7).tobytes()


@pytest.mark.parametrize("width", [1, 2, 64])
def test_any_width_is_filled_or_padded(width):
    assert content_features(ITEMS, width, seed=7).shape == (5, width)


@pytest.mark.parametrize(
    "items",
    [
        pa.table({"item_id": ["a", "b"]}),
        pa.table({"item_id": ["a"], "title": ["one"]}),
        pa.table({"item_id": ["a", "b"], "title": ["? !", None]}),
        pa.table({"item_id": pa.array([], pa.string()), "title": pa.array([], pa.string())}),
    ],
)
def test_catalogues_with_next_to_no_content_have_finite_vectors(items):
    vectors = content_features(items, 4, seed=7)
    assert vectors.shape == (items.num_rows, 4)
    assert np.isfinite(vectors).all()
