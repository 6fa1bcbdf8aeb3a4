"""Products with own candidates are those of gathered rows, and so is their gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.models.own_products import aligned, own_products

ROWS = 9


def drawn(
    states: int, candidates: int, features: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    query = torch.randn(states, features, generator=chance, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(ROWS, features, generator=chance, dtype=torch.float64)
    return query, rows, torch.randint(ROWS, (states, candidates), generator=chance)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 40), st.integers(0, 100))
def test_products_and_gradients_are_those_of_gathered_rows(
    states: int, candidates: int, features: int, seed: int
) -> None:
    query, rows, place = drawn(states, candidates, features, seed)
    gathered = (rows[place] @ query[:, :, None])[..., 0]
    slope = torch.randn(gathered.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    (wanted,) = torch.autograd.grad(gathered, query, slope)
    for stored in (rows, aligned(rows)):
        products = own_products(query, stored, place)
        torch.testing.assert_close(products, gathered)
        torch.testing.assert_close(torch.autograd.grad(products, query, slope)[0], wanted)


def test_the_gradient_is_that_of_differences() -> None:
    query, rows, place = drawn(4, 3, 5, seed=0)
    assert torch.autograd.gradcheck(lambda asked: own_products(asked, rows, place), (query,))


def test_queries_that_are_columns_of_a_wider_tensor_are_read_as_they_are() -> None:
    query, rows, place = drawn(4, 3, 8, seed=1)
    wide = torch.cat([query, query], dim=1)
    torch.testing.assert_close(
        own_products(wide[:, 8:], rows, place), own_products(query, rows, place), rtol=0, atol=0
    )
    transposed = rows.T.contiguous().T
    torch.testing.assert_close(own_products(query, transposed, place), own_products(query, rows, place))


def test_rows_begin_with_a_line_and_end_with_zeros() -> None:
    stored = aligned(torch.ones(3, 18))
    assert stored.shape == (3, 32)
    assert stored[:, 18:].count_nonzero() == 0
    kept = torch.ones(3, 32)
    assert aligned(kept) is kept


def test_a_gradient_of_rows_is_refused() -> None:
    query, rows, place = drawn(2, 2, 3, seed=0)
    with pytest.raises(RuntimeError, match="detach"):
        own_products(query, rows.requires_grad_(True), place)
