"""Inner products in place, against numpy's, which copies the rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.candidates.inner_products import inner_products


@given(
    rows=st.integers(1, 40),
    features=st.integers(1, 70),
    asked=st.integers(0, 50),
    kind=st.sampled_from([np.int32, np.int64]),
    seed=st.integers(0, 2**16),
)
def test_they_are_those_of_the_rows_asked_for_in_their_order(
    rows: int, features: int, asked: int, kind: type, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    table = generator.standard_normal((rows, features)).astype(np.float32)
    query = generator.standard_normal(features).astype(np.float32)
    items = generator.integers(0, rows, asked).astype(kind)
    np.testing.assert_allclose(
        inner_products(table, items, query), table[items] @ query, rtol=1e-4, atol=1e-5
    )


def test_a_query_and_items_that_are_slices_of_others_are_read_as_they_are() -> None:
    table = np.eye(4, dtype=np.float32)
    query, items = np.arange(8, dtype=np.float32)[::2], np.arange(8)[6::-2]  # 0 2 4 6; 6 4 2 0
    np.testing.assert_array_equal(inner_products(table, items // 2, query), [6.0, 4.0, 2.0, 0.0])


@pytest.mark.parametrize("item", [-1, 3, 2**40])
def test_an_item_without_a_row_is_refused(item: int) -> None:
    with pytest.raises(IndexError, match=r"are asked of 3 rows"):
        inner_products(np.eye(3, dtype=np.float32), np.array([0, item]), np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("rows", "features", "named"),
    [
        (np.eye(3), 3, "float32"),
        (np.ones((3, 6), np.float32)[:, ::2], 3, "strides"),
        (np.eye(3, dtype=np.float32), 4, "4 features"),
    ],
)
def test_a_table_that_cannot_be_read_in_place_is_refused(rows: np.ndarray, features: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        inner_products(rows, np.array([0]), np.ones(features, np.float32))
