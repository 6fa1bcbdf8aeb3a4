"""Cross-fitted factors: a fold's own histories leave no trace in what it reads."""

import numpy as np
import pytest
from scipy import sparse

from recsys.config import MemoryConfig
from recsys.learning.memory import draw_folds, memory_factors
from recsys.learning.recency import age_weight, recent_popularity, training_end
from tests.memory_log import Event, Told, memory_log, taken

SETTINGS = MemoryConfig(features=6, folds=2, smoothing=0.0)


def shopping(histories: int = 60, items: int = 12) -> sparse.csr_matrix:
    """Two tastes: half of the histories take even items, half odd ones."""
    generator = np.random.default_rng(0)
    matrix = generator.random((histories, items)) < 0.5
    matrix &= (np.arange(items)[None, :] % 2) == (np.arange(histories)[:, None] % 2)
    return sparse.csr_matrix(matrix.astype(np.float32))


def test_folds_are_of_one_size() -> None:
    fold = draw_folds(11, 3, np.random.default_rng(0))
    assert sorted(np.bincount(fold).tolist()) == [3, 4, 4]


def test_what_a_fold_reads_does_not_change_with_its_own_histories() -> None:
    matrix = shopping()
    fold = draw_folds(60, 2, np.random.default_rng(1))
    _, before = memory_factors(matrix, fold, SETTINGS, seed=0)
    changed = matrix.toarray()
    changed[np.flatnonzero(fold == 0)[0], :2] = 1.0  # an even and an odd item in one history of fold 0
    _, after = memory_factors(sparse.csr_matrix(changed), fold, SETTINGS, seed=0)
    # factors are only known up to a turn: what ranks is their inner products
    np.testing.assert_allclose(before[0] @ before[0].T, after[0] @ after[0].T, atol=1e-4)
    assert np.abs(before[1] @ before[1].T - after[1] @ after[1].T).max() > 1e-3


def test_factors_of_folds_speak_one_language() -> None:
    two_tastes = MemoryConfig(features=2, folds=2, smoothing=0.0)
    fold = draw_folds(400, 2, np.random.default_rng(1))
    everybody, by_fold = memory_factors(shopping(400), fold, two_tastes, seed=0)
    for each in by_fold:
        assert np.linalg.norm(each - everybody) < 0.1 * np.linalg.norm(everybody)


def test_no_folds_leave_only_the_factors_of_everybody() -> None:
    alone = MemoryConfig(features=6, folds=0)
    assert memory_factors(shopping(), np.zeros(60, np.int64), alone, seed=0)[1] == []


def test_a_half_life_halves() -> None:
    day = 86_400
    assert age_weight(np.array([0, 10 * day, 20 * day]), 20 * day, 10.0).tolist() == pytest.approx(
        [0.25, 0.5, 1]
    )
    assert age_weight(np.array([0, 5]), 5, None).tolist() == [1.0, 1.0]


def test_recent_popularity_counts_recent_events_more_and_keeps_their_number() -> None:
    day = 86_400
    log = memory_log(
        [Told([Event(0, 0), Event(1, 10 * day), Event(2, 10 * day, reward=0.0)]), taken(3)], items=5
    )
    histories = np.array([0, 1])
    assert training_end(log, histories) == 10 * day
    counted = recent_popularity(log, histories, 10.0)
    assert counted.tolist() == pytest.approx([0.75, 1.5, 0.0, 0.75, 0.0])
    assert recent_popularity(log, histories, None).tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
