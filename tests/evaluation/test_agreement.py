"""Agreement of a student with its teacher, on scores told by hand and on networks that are or are not the same."""

import copy

import numpy as np
import pytest
import torch

from recsys.adaptation import AdaptationPrior
from recsys.evaluation.agreement import agreement, list_overlap, rank_correlation
from recsys.evaluation.cold_start import ColdCases
from recsys.evaluation.curve import kshot_curve
from recsys.evaluation.ranking import QuerySets
from recsys.models.item_table import ItemTable
from recsys.models.student import StudentNetwork
from tests.factories import EVENT_TYPES, tiny_shape
from tests.memory_log import random_history

ITEMS, SHOTS = 40, (0, 1, 4)


def test_overlap_is_the_share_of_shared_items_wherever_they_stand() -> None:
    one, other = np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[4, 3, 9, 1], [0, 1, 2, 3]])
    assert list_overlap(one, other).tolist() == [0.75, 0.0]


def test_rank_correlation_is_spearmans() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]] * 3, np.float32)
    others = np.array([[9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 1.0, 2.0]], np.float32)
    assert rank_correlation(scores, others).tolist() == pytest.approx([1.0, -1.0, 1 - 6 * 2 / (4 * 15)])


@pytest.fixture(scope="module")
def cases() -> ColdCases:
    generator = np.random.default_rng(0)
    first = tuple(random_history(generator, 4, ITEMS) for _ in range(12))
    wanted = [generator.choice(ITEMS, 5, replace=False).astype(np.int32) for _ in first]
    nobody = QuerySets.of([np.zeros(0, np.int32) for _ in first])
    excluded = [history.item[:2] for history in first]
    return ColdCases(np.arange(12), first, excluded, QuerySets.of(wanted), nobody, nobody)


def ranked(seed: int) -> tuple[StudentNetwork, AdaptationPrior, ItemTable]:
    torch.manual_seed(seed)
    student = StudentNetwork(tiny_shape(ITEMS))
    table = ItemTable.of(torch.randn(ITEMS, 8), torch.randn(ITEMS), torch.randn(ITEMS, 6))
    student.vectors = table.vectors
    return student, AdaptationPrior(6, len(EVENT_TYPES)), table


def test_a_copy_agrees_in_everything_and_both_rank_as_the_curve_says(cases: ColdCases) -> None:
    teacher = ranked(0)
    found = agreement([teacher], copy.deepcopy(teacher), cases, SHOTS, 10, 0.5, candidates=20)
    assert found.overlap.min() == 1.0
    assert found.correlation.min() == 1.0
    network, prior, table = teacher
    curve = kshot_curve(network, table, prior, cases, SHOTS, 10, 0.5)
    np.testing.assert_allclose(found.student_ndcg, curve.adapted)
    np.testing.assert_allclose(found.teacher_ndcg, curve.adapted)


def test_the_mean_of_two_teachers_is_neither_and_nearer_to_both_than_they_are_to_each_other(
    cases: ColdCases,
) -> None:
    one, other = ranked(1), ranked(2)
    apart = agreement([one], other, cases, SHOTS, 10, 0.5).correlation.mean()
    both = agreement([one, other], one, cases, SHOTS, 10, 0.5).correlation.mean()
    assert apart < both < 1.0


def test_without_users_there_is_nothing_to_tell(cases: ColdCases) -> None:
    found = agreement([ranked(0)], ranked(0), cases.rows(slice(0, 0)), SHOTS, 10, 0.5)
    assert found.plain(SHOTS) == {}
