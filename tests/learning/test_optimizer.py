"""What a step does to tables that it reads only in part, and to gradients that are too long."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recsys.learning.optimizer import LazyAdamW, clip_gradients, optimizer_for, step
from recsys.learning.target_network import frozen_copy, soft_update
from recsys.models import item_tower, q_network
from recsys.models.q_network import QNetwork
from tests.factories import tiny_shape

SETTINGS = {"lr": 0.05, "weight_decay": 0.1}


def tables(rows: int = 6) -> tuple[nn.Embedding, nn.Embedding]:
    """Return one table twice: with sparse gradients and with dense ones."""
    torch.manual_seed(0)
    sparse, dense = nn.Embedding(rows, 3, sparse=True), nn.Embedding(rows, 3)
    dense.load_state_dict(sparse.state_dict())
    return sparse, dense


def losses(read: torch.Tensor, *of: nn.Embedding) -> list[torch.Tensor]:
    wanted = torch.arange(3.0)
    return [((table(read) - wanted) ** 2).sum() for table in of]


def test_rows_that_every_step_reads_move_as_adamw_moves_them() -> None:
    sparse, dense = tables()
    lazy, plain = (
        LazyAdamW(sparse.parameters(), **SETTINGS),
        torch.optim.AdamW(dense.parameters(), **SETTINGS),
    )
    read = torch.tensor([0, 1, 2, 3, 4, 5, 2, 2])  # one row thrice: its gradients add up
    for _ in range(20):
        for optimizer, loss in zip((lazy, plain), losses(read, sparse, dense), strict=True):
            step(optimizer_with_base(optimizer), loss, max_gradient_norm=None)
    torch.testing.assert_close(sparse.weight, dense.weight)


def optimizer_with_base(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group.setdefault("base_lr", group["lr"])
    return optimizer


def test_rows_that_no_step_reads_stay_to_the_bit() -> None:
    sparse, _ = tables()
    before = sparse.weight.detach().clone()
    lazy = optimizer_for(nn.Sequential(sparse), 0.05, 0.1)
    for read in ([1, 4], [4], [1]):
        step(lazy, losses(torch.tensor(read), sparse)[0])
    still = torch.tensor([0, 2, 3, 5])
    assert torch.equal(sparse.weight[still], before[still])
    assert (sparse.weight[[1, 4]] != before[[1, 4]]).all()


def test_dense_parameters_beside_a_table_move_as_ever() -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    two.load_state_dict(one.state_dict())
    sparse, _ = tables()
    lazy = LazyAdamW([*one.parameters(), *sparse.parameters()], **SETTINGS)
    plain = torch.optim.AdamW(two.parameters(), **SETTINGS)
    x = torch.randn(4, 3)
    for _ in range(5):
        for optimizer, loss in (
            (lazy, (one(x) ** 2).sum() + losses(torch.tensor([1]), sparse)[0]),
            (plain, (two(x) ** 2).sum()),
        ):
            step(optimizer_with_base(optimizer), loss, max_gradient_norm=None)
    torch.testing.assert_close(one.weight, two.weight)
    torch.testing.assert_close(one.bias, two.bias)


def test_a_resumed_table_goes_on_exactly() -> None:
    sparse, _ = tables()
    lazy = optimizer_for(nn.Sequential(sparse), 0.05, 0.1)
    step(lazy, losses(torch.tensor([1, 4]), sparse)[0])
    other, _ = tables()
    other.load_state_dict(sparse.state_dict())
    again = optimizer_for(nn.Sequential(other), 0.05, 0.1)
    again.load_state_dict(copy.deepcopy(lazy.state_dict()))  # torch would share the moments
    for optimizer, table in ((lazy, sparse), (again, other)):
        step(optimizer, losses(torch.tensor([4, 5]), table)[0])
    assert torch.equal(sparse.weight, other.weight)


@pytest.mark.parametrize("largest", [0.5, 1e6])  # the second is never reached
def test_sparse_and_dense_gradients_are_clipped_by_their_common_norm(largest: float) -> None:
    sparse, dense = tables()
    other = nn.Parameter(torch.tensor([3.0, -4.0]))
    twin = nn.Parameter(other.detach().clone())
    read = torch.tensor([1, 1, 5])
    for table, extra in ((sparse, other), (dense, twin)):
        (losses(read, table)[0] + (extra**2).sum()).backward()
    clip_gradients([sparse.weight, other], largest)
    nn.utils.clip_grad_norm_([dense.weight, twin], largest)
    torch.testing.assert_close(sparse.weight.grad.to_dense(), dense.weight.grad)
    torch.testing.assert_close(other.grad, twin.grad)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> QNetwork:
    """A network whose 40 items count as a large catalogue."""
    for module in (item_tower, q_network):
        monkeypatch.setattr(module, "LARGE_CATALOGUE", 40)
    torch.manual_seed(0)
    return QNetwork(tiny_shape(40), temperature=0.1)


def test_a_target_shares_the_tables_of_a_large_catalogue_and_nothing_else(large: QNetwork) -> None:
    target = frozen_copy(large, share_tables=True)
    own = {
        name for name, p in target.named_parameters() if p.data_ptr() != large.get_parameter(name).data_ptr()
    }
    shared = {"tower.id_embedding.weight", "tower.bias.weight", "behavior_bias.weight"}
    assert {name for name, _ in large.named_parameters()} - own == shared
    assert target.tower.content.data_ptr() == large.tower.content.data_ptr()
    assert not any(p.requires_grad for p in target.parameters())
    assert all(p.requires_grad for p in large.parameters())
    with torch.no_grad():
        large.tower.id_embedding.weight[3] = 7.0
        large.tower.content_map.weight.add_(1.0)
    soft_update(target, large, 0.25)
    assert (target.tower.id_embedding.weight[3] == 7.0).all()
    assert (large.tower.id_embedding.weight[3] == 7.0).all()  # the update did not reach back
    gap = large.tower.content_map.weight - target.tower.content_map.weight
    torch.testing.assert_close(gap, torch.full_like(gap, 0.75))


def test_a_target_shares_what_folds_read_of_a_large_catalogue(large: QNetwork) -> None:
    torch.manual_seed(0)
    network = QNetwork(replace(tiny_shape(40), memory_features=4), temperature=0.1)
    network.tower.remember(np.zeros((40, 4), np.float32), [np.full((40, 4), n, np.float32) for n in (1, 2)])
    for network_of, shared in ((network, True), (frozen_copy(network), False)):
        target = frozen_copy(network, share_tables=True) if shared else network_of
        pairs = zip(target.tower.fold_factors, network.tower.fold_factors, strict=True)
        assert [a.data_ptr() == b.data_ptr() for a, b in pairs] == [shared] * 2


def test_a_copy_that_must_stay_as_it_was_shares_nothing(large: QNetwork) -> None:
    copy = frozen_copy(large)
    with torch.no_grad():
        large.tower.id_embedding.weight.zero_()
    assert copy.tower.id_embedding.weight.abs().max() > 0


def test_a_small_catalogue_keeps_a_target_of_its_own() -> None:
    network = QNetwork(tiny_shape(40), temperature=0.1)
    target = frozen_copy(network, share_tables=True)
    assert all(
        p.data_ptr() != network.get_parameter(name).data_ptr() for name, p in target.named_parameters()
    )
