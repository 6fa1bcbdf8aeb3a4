"""EASE and ALS held against the textbook's equations, solved the plain way."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from recsys.errors import UserError
from recsys.logs.prepared import training_histories
from recsys.policies.als import Als, AlsOptions, solve_rows
from recsys.policies.ease import Ease, EaseOptions
from tests.memory_log import Event, history, memory_log, random_told, taken

ITEMS = 9


def random_matrix(seed: int, rows: int = 30, items: int = ITEMS) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random((rows, items)) < 0.3).astype(np.float32)


def log_of(matrix: np.ndarray):
    return memory_log(
        [taken(*np.flatnonzero(row).tolist()) for row in matrix if row.any()], items=matrix.shape[1]
    )


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_is_the_closed_form_of_the_paper(l2: float) -> None:
    matrix = random_matrix(0).astype(np.float64)
    matrix = matrix[matrix.any(axis=1)]
    log = log_of(matrix)
    fitted = Ease(EaseOptions(l2=l2)).fit(log, training_histories(log))
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(fitted.weight_, weights, atol=1e-4)
    scores = fitted.scores([history(Event(2), Event(5))])[0]
    np.testing.assert_allclose(scores, weights[2] + weights[5], atol=1e-4)


def test_ease_weighs_long_histories_less_if_told_to() -> None:
    """Each column solves min Σ_h d_h (x_hj − Σ_i x_hi b_ij)² + λ|b|² over the other items."""
    matrix = random_matrix(1).astype(np.float64)
    matrix = matrix[matrix.any(axis=1)]
    log = log_of(matrix)
    fitted = Ease(EaseOptions(l2=3.0, history_exponent=0.5)).fit(log, training_histories(log))
    weight = 1 / matrix.sum(axis=1)
    weight *= matrix.sum() / (weight @ matrix.sum(axis=1))
    for j in range(ITEMS):
        others = [i for i in range(ITEMS) if i != j]
        x = matrix[:, others]
        solution = np.linalg.solve(
            x.T @ (weight[:, None] * x) + 3.0 * np.eye(len(others)), x.T @ (weight * matrix[:, j])
        )
        np.testing.assert_allclose(fitted.weight_[others, j], solution, atol=1e-4)


def test_items_without_a_column_stand_behind_by_popularity() -> None:
    log = memory_log([taken(0, 1), taken(0, 1), taken(0, 1), taken(2, 3), taken(3)], items=5)
    fitted = Ease(EaseOptions(l2=1.0, max_items=2)).fit(log, training_histories(log))
    known, stranger = fitted.scores([history(Event(0)), history(Event(3))])
    assert np.argsort(-known, kind="stable").tolist() == [1, 0, 3, 2, 4]
    assert np.argsort(-stranger, kind="stable").tolist() == [0, 1, 3, 2, 4]  # no support with a column


def test_a_matrix_too_large_to_be_dense_is_refused() -> None:
    log = memory_log([taken(0, 1)])
    with pytest.raises(
        UserError, match=r"max_items of EASE is 50000, must be at most 20000.*lower max_items"
    ):
        Ease(EaseOptions(max_items=50_000)).fit(log, training_histories(log))


def objective(matrix: np.ndarray, users: np.ndarray, items: np.ndarray, options: AlsOptions) -> float:
    scores = users @ items.T
    n_user, n_item = matrix.sum(axis=1), matrix.sum(axis=0)
    ridge_user = options.l2 * (n_user + options.unobserved * matrix.shape[1]) ** options.exponent
    ridge_item = options.l2 * (n_item + options.unobserved * matrix.shape[0]) ** options.exponent
    return float(
        (matrix * (1 - scores) ** 2).sum()
        + options.unobserved * (scores**2).sum()
        + ridge_user @ (users**2).sum(axis=1)
        + ridge_item @ (items**2).sum(axis=1)
    )


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_fold_in_solves_the_normal_equations_of_one_user(exponent: float) -> None:
    options = AlsOptions(features=4, unobserved=0.3, l2=0.2, exponent=exponent, sweeps=4)
    log = log_of(random_matrix(2))
    fitted = Als(options).fit(log, training_histories(log))
    y = fitted.factors_.astype(np.float64)
    taken_items = [1, 4, 7]
    ridge = 0.2 * (3 + 0.3 * ITEMS) ** exponent
    normal = y[taken_items].T @ y[taken_items] + 0.3 * y.T @ y + ridge * np.eye(4)
    expected = np.linalg.solve(normal, y[taken_items].sum(axis=0))
    person = history(Event(1), Event(4), Event(7), Event(1), Event(2, reward=-1.0))
    np.testing.assert_allclose(fitted.fold_in([person])[0], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(fitted.scores([person])[0], y @ expected, rtol=1e-3, atol=1e-5)


def test_every_half_sweep_lowers_the_objective() -> None:
    matrix = random_matrix(3, rows=40)
    options = AlsOptions(features=3, unobserved=0.2, l2=0.05, exponent=0.5)
    rows = sparse.csr_matrix(matrix)
    items = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)
    reached = []
    for _ in range(4):
        users = solve_rows(rows, items, options)
        reached.append(objective(matrix, users, items, options))
        items = solve_rows(rows.T.tocsr(), users, options)
        reached.append(objective(matrix, users, items, options))
    assert all(later <= earlier + 1e-4 for earlier, later in pairwise(reached))
    assert reached[-1] < 0.9 * reached[0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sparse.csr_matrix(random_matrix(4))
    factors = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)
    whole = solve_rows(rows, factors, AlsOptions())
    monkeypatch.setattr("recsys.policies.als.BLOCK_ENTRIES", 40)
    np.testing.assert_allclose(solve_rows(rows, factors, AlsOptions()), whole, rtol=1e-4, atol=1e-6)


def test_a_log_of_random_histories_is_factorised() -> None:
    generator = np.random.default_rng(5)
    log = memory_log([random_told(generator, 8) for _ in range(10)])
    assert Als(AlsOptions(features=3)).fit(log, training_histories(log)).factors_.shape == (10, 3)
