"""What a student learns from: candidates once each, the mean of several teachers, or the log alone."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys.adaptation import AdaptationPrior
from recsys.config import DistillConfig
from recsys.learning import teachers
from recsys.learning.distillation import Distiller, logged_returns, repeated
from recsys.learning.teachers import Asked, Learner, Teacher
from recsys.mdp.state import encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.student import StudentNetwork
from tests.factories import EVENT_TYPES, tiny_shape
from tests.memory_log import Event, history, random_history

ITEMS, FEATURES = 30, 5


def teacher(seed: int) -> Learner:
    torch.manual_seed(seed)
    network = QNetwork(tiny_shape(ITEMS), temperature=0.1).eval().requires_grad_(False)
    vectors, bias = network.tower.table()
    table = ItemTable.of(vectors, bias * 0.1, torch.randn(ITEMS, FEATURES))
    return Learner(network, AdaptationPrior(FEATURES, len(EVENT_TYPES)).requires_grad_(False), table)


def student_of(one: Learner) -> Learner:
    torch.manual_seed(9)
    student = StudentNetwork(tiny_shape(ITEMS))
    student.vectors = one.table.vectors
    return Learner(student, AdaptationPrior(FEATURES, len(EVENT_TYPES)), one.table)


BATCH = encode_states([random_history(np.random.default_rng(seed), 8, ITEMS) for seed in range(6)], 20)
SHOTS = torch.tensor([1, 2, 3, 4, 5, 6])


def distiller(members: list[Learner], **settings: object) -> Distiller:
    small = {"teacher_top": 8, "index_top": 4, "random_candidates": 10, "next_item_weight": 0.2}
    config = DistillConfig(**{**small, **settings})
    chance = torch.Generator().manual_seed(0)
    return Distiller(Teacher.of(members), student_of(teacher(0)), config, 0.5, chance)


@pytest.mark.filterwarnings("ignore:.*clustering.*")
def test_beyond_a_size_candidates_are_looked_for_by_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = torch.randn(2_000, 6, generator=torch.Generator().manual_seed(0))
    one = teacher(0)
    wide = Learner(one.network, one.prior, ItemTable.of(table, torch.zeros(2_000), torch.zeros(2_000, 1)))
    asked = [Asked(torch.randn(50, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(50))]
    exact = Teacher.of([wide]).best(asked, 10)[0]
    monkeypatch.setattr(teachers, "EXACT_UP_TO", 1_000)
    monkeypatch.setattr(teachers, "LOOKED_AT", 450)
    found = Teacher.of([wide]).best(asked, 10)[0]
    hits = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]) / 10
    assert 0.8 <= hits < 1.0  # 10 of 44 cells


def test_what_stood_before_in_a_row_and_what_is_nothing_count_no_further() -> None:
    items = torch.tensor([[3, 1, 3, -1, 1, 2], [-1, 5, 5, 5, 0, -1]])
    expected = [[False, False, True, True, True, False], [True, False, True, True, False, True]]
    assert repeated(items).tolist() == expected


def test_returns_of_the_log_are_discounted_sums_with_the_last_state_behind_them() -> None:
    batch = encode_states(
        [history(Event(1, 0, 0, 1.0), Event(2, 5, 0, 2.0)), history(Event(3, 0, 0, 4.0))], 5
    )
    told = logged_returns(batch, torch.tensor([[9.0, 9.0, 8.0], [9.0, 6.0, 9.0]]), 0.5)
    assert told.tolist() == [[1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8], [4 + 0.5 * 6, 6.0]]


def test_q_of_candidates_is_the_inner_product_of_their_rows_and_the_members_q_is_averaged() -> None:
    one, other = teacher(0), teacher(1)
    own, shared = torch.tensor([[1, 2], [3, 4]]), torch.tensor([5, 6, 7])
    asked = [Asked(torch.randn(2, one.columns.shape[1]), torch.randn(2)) for _ in range(2)]
    both = Teacher.of([one, other]).q(asked, own, shared)
    for state in range(2):
        items = [*own[state].tolist(), *shared.tolist()]
        each = [
            m.columns[items] @ a.query[state] + a.value[state]
            for m, a in zip((one, other), asked, strict=True)
        ]
        torch.testing.assert_close(both[state], (each[0] + each[1]) / 2)


def test_each_loss_counts_by_its_weight() -> None:
    weights = ("kl_weight", "advantage_weight", "next_item_weight", "adapted_weight")
    full = float(distiller([teacher(0)]).losses(BATCH, SHOTS).total.detach())
    for name in weights:
        assert float(distiller([teacher(0)], **{name: 0.0}).losses(BATCH, SHOTS).total.detach()) < full, name


def test_a_second_teacher_changes_what_is_matched() -> None:
    alone, both = distiller([teacher(0)]), distiller([teacher(0), teacher(1)])
    assert alone.losses(BATCH, SHOTS).prior_kl != pytest.approx(both.losses(BATCH, SHOTS).prior_kl, rel=1e-3)


def test_without_a_teacher_the_student_learns_next_items_and_returns_of_the_log() -> None:
    alone = distiller([], index_top=0)
    optimizer = torch.optim.Adam(
        [*alone.student.network.parameters(), *alone.student.prior.parameters()], 0.05
    )
    first = alone.losses(BATCH, SHOTS)
    assert (first.prior_kl, first.adapted_kl, first.advantage) == (0.0, 0.0, 0.0)
    for _ in range(25):
        optimizer.zero_grad()
        losses = alone.losses(BATCH, SHOTS)
        losses.total.backward()
        optimizer.step()
    assert losses.next_item < 0.6 * first.next_item


def test_a_student_without_a_teacher_must_have_the_log_to_learn_from() -> None:
    with pytest.raises(ValidationError, match="next_item_weight is 0, must be above 0 where"):
        DistillConfig(from_teacher=False)
    assert DistillConfig(from_teacher=False, next_item_weight=1).kl_weight == 1.0
