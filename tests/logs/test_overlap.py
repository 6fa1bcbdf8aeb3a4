"""Overlaps and shrunk similarities held against their formula, item pair by item pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recsys.logs import overlap as room
from recsys.logs.overlap import nearest, overlap, shrunk_similarity

PLENTY = 10**9


def random_matrix(seed: int, histories: int = 30, items: int = 12) -> sparse.csr_matrix:
    dense = np.random.default_rng(seed).random((histories, items)) < 0.3
    dense[:, 3] = False  # an item that nobody took
    return sparse.csr_matrix(dense.astype(np.float32))


def by_formula(
    matrix: sparse.csr_matrix, p: float, a: float, smoothing: float, shrinkage: float
) -> np.ndarray:
    taken = matrix.toarray().astype(np.float64)
    length = taken.sum(axis=1)
    weight = np.where(length > 0, np.maximum(length, 1.0) ** (-2 * p), 0.0)
    weight *= length.sum() / (weight @ length)
    shared = np.zeros((taken.shape[1],) * 2)
    for history, its_weight in zip(taken, weight, strict=True):
        shared += its_weight * np.outer(history, history)
    degree = np.maximum(np.diag(shared) + smoothing, 1.0)
    told = shared**2 / np.maximum(shared + shrinkage, 1e-12)
    return told / np.outer(degree, degree) ** a


@given(
    seed=st.integers(0, 20),
    p=st.sampled_from([0.0, 0.25, 0.5]),
    a=st.sampled_from([0.0, 0.4, 0.5]),
    shrinkage=st.sampled_from([0.5, 10.0]),
)
def test_a_shrunk_similarity_is_its_formula_diagonal_included(
    seed: int, p: float, a: float, shrinkage: float
) -> None:
    matrix = random_matrix(seed)
    found = shrunk_similarity(matrix, p, a, 2.0, shrinkage, PLENTY).toarray()
    np.testing.assert_allclose(found, by_formula(matrix, p, a, 2.0, shrinkage), rtol=1e-4, atol=1e-6)


def test_overlaps_are_the_similarity_that_nothing_shrinks_or_scales() -> None:
    matrix = random_matrix(3)
    shared = overlap(matrix, 0.25)
    expected = by_formula(matrix, 0.25, 0.0, 0.0, 1e-9)
    np.testing.assert_allclose(
        shared.product.toarray() + np.diag(shared.degree), expected, rtol=1e-4, atol=1e-6
    )
    assert not shared.product.diagonal().any()


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random_matrix(5, histories=60, items=40)
    whole = shrunk_similarity(matrix, 0.25, 0.5, 3.0, 10.0, PLENTY)
    monkeypatch.setattr(room, "DENSE_ENTRIES", 300)
    np.testing.assert_allclose(
        shrunk_similarity(matrix, 0.25, 0.5, 3.0, 10.0, PLENTY).toarray(), whole.toarray(), rtol=1e-6
    )


def test_where_pairs_are_too_many_each_item_keeps_its_most_similar_ones() -> None:
    matrix = random_matrix(5, histories=60, items=40)
    whole = shrunk_similarity(matrix, 0.0, 0.5, 0.0, 10.0, PLENTY)
    kept = shrunk_similarity(matrix, 0.0, 0.5, 0.0, 10.0, most_pairs=40 * 6)
    mine = nearest(whole, 6)
    assert kept.nnz < whole.nnz
    assert kept.nnz <= 2 * 40 * 6  # theirs and its own, seen from both sides
    assert (kept != kept.T).nnz == 0
    np.testing.assert_allclose(kept.toarray(), np.maximum(mine.toarray(), mine.toarray().T), rtol=1e-6)


def test_a_log_without_anything_positive_has_no_similarity() -> None:
    nothing = sparse.csr_matrix((4, 5), dtype=np.float32)
    assert shrunk_similarity(nothing, 0.25, 0.5, 3.0, 10.0, PLENTY).nnz == 0
