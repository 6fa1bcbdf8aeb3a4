"""How processes that train together divide a batch: every window once, and none where there are too few."""

import numpy as np
import pytest
import torch

from recsys.learning.epoch_batches import EpochBatch
from recsys.learning.parallel import ALONE, Group
from recsys.mdp.windows import Windows


def batch_of(count: int) -> EpochBatch:
    history = np.arange(count, dtype=np.int64)
    windows = Windows(history=history, start=history * 10, end=history * 10 + 5)
    return EpochBatch(windows, 3, torch.arange(count).float())


@pytest.mark.parametrize(("count", "size"), [(7, 2), (8, 4), (9, 4), (5, 5)])
def test_shares_hold_every_window_once_with_its_weight(count: int, size: int) -> None:
    shares = [Group(rank, size).share(batch_of(count)) for rank in range(size)]
    assert all(share is not None for share in shares)
    histories = np.concatenate([share.windows.history for share in shares if share is not None])
    weights = torch.cat([share.weight for share in shares if share is not None and share.weight is not None])
    assert sorted(histories.tolist()) == list(range(count))
    assert weights.tolist() == histories.tolist()
    lengths = [len(share.windows) for share in shares if share is not None]
    assert max(lengths) - min(lengths) <= 1
    assert {share.fold for share in shares if share is not None} == {3}


def test_a_batch_too_small_for_everybody_is_left_out_by_all() -> None:
    assert [Group(rank, 3).share(batch_of(2)) for rank in range(3)] == [None, None, None]


def test_one_process_alone_draws_from_what_it_was_given() -> None:
    chance, reading = torch.Generator().manual_seed(1), np.random.default_rng(1)
    before = chance.get_state()
    assert ALONE.chance(7, 0, chance, reading) is reading
    assert torch.equal(chance.get_state(), before)
    assert ALONE.agree(lambda: 0.25) == 0.25


def test_chance_differs_by_process_and_epoch_and_repeats() -> None:
    def drawn(rank: int, epoch: int) -> list[float]:
        chance = torch.Generator()
        reading = Group(rank, 2).chance(7, epoch, chance, np.random.default_rng(0))
        return [float(torch.rand(1, generator=chance)), float(torch.rand(1)), float(reading.random())]

    assert drawn(0, 0) == drawn(0, 0)
    several = [drawn(0, 0), drawn(1, 0), drawn(0, 1)]
    for place in range(3):
        assert len({values[place] for values in several}) == 3
