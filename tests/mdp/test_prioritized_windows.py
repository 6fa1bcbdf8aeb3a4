"""Windows are drawn by η max|δ| + (1 − η) mean|δ| of their events, whose errors outlive the windows."""

import numpy as np
import pytest
import torch

from recsys.errors import UserError
from recsys.mdp.priorities import PriorityRule
from recsys.mdp.prioritized_windows import PrioritizedWindows
from recsys.mdp.windows import Windows

RULE = PriorityRule(alpha=1.0, beta=1.0, epsilon=1e-9, sequence_mix=0.75)
PAIR = Windows(np.array([0, 4]), np.array([3, 6]), np.array([0, 1]))  # events 0..2 and 4, 5


def learnt_pair() -> PrioritizedWindows:
    made = PrioritizedWindows(6, RULE)
    made.cut(PAIR)
    draw = made.sample(2, np.random.default_rng(0))
    assert draw.index.tolist() == [0, 1]  # equal priorities, one stratum each
    errors = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.5, 99.0]])
    made.update(draw, errors, torch.tensor([[True, True, True], [True, True, False]]))  # 99 is padding
    return made


def test_a_window_counts_by_its_largest_and_its_mean_error() -> None:
    made = learnt_pair()
    assert made.errors_of(PAIR).tolist() == [0.75 * 3 + 0.25 * 2, 0.5]
    draw = made.sample(13, np.random.default_rng(0))
    assert np.bincount(draw.index).tolist() == [11, 2]  # 2.75 : 0.5, one draw per stratum
    expected = np.array([2 / 11, 1.0], np.float32)[draw.index]
    np.testing.assert_allclose(draw.weight.numpy(), expected, rtol=1e-6)
    assert draw.windows.start.tolist() == PAIR.start[draw.index].tolist()


def test_errors_outlive_the_windows_and_unknown_ones_count_as_the_largest() -> None:
    made = learnt_pair()
    moved = Windows(np.array([2, 0]), np.array([4, 2]), np.array([0, 0]))  # events 2, 3 (never seen) and 0, 1
    made.cut(moved)
    assert made.errors_of(moved).tolist() == pytest.approx([3.0, 0.75 * 2 + 0.25 * 1.5])


def test_steps_without_an_error_keep_theirs() -> None:
    made = learnt_pair()
    draw = made.sample(1, np.random.default_rng(0))
    assert draw.index.tolist() == [0]
    made.update(draw, torch.tensor([[9.0, 9.0, 0.0]]), torch.tensor([[False, False, True]]))
    assert made.errors_of(PAIR)[0] == pytest.approx(0.75 * 2 + 0.25 * 1)


def test_a_restored_sampler_goes_on_exactly_from_the_next_cut() -> None:
    made, other = learnt_pair(), PrioritizedWindows(6, RULE)
    other.restore(made.state())
    for either in (made, other):
        either.cut(PAIR)
    one, two = (either.sample(16, np.random.default_rng(2)) for either in (made, other))
    assert one.index.tolist() == two.index.tolist()
    assert torch.equal(one.weight, two.weight)
    with pytest.raises(UserError, match="of 6 events, must be of 7"):
        PrioritizedWindows(7, RULE).restore(made.state())


def test_annealing_goes_on_over_the_cuts() -> None:
    made = PrioritizedWindows(6, PriorityRule(alpha=1.0, beta=0.0, anneal_draws=2, epsilon=1e-12))
    made.cut(PAIR)
    draw = made.sample(2, np.random.default_rng(0))
    made.update(draw, torch.tensor([[3.0], [1.0]]), torch.tensor([[True], [True]]))
    lightest = []
    for _ in range(2):
        made.cut(Windows(np.array([0, 4]), np.array([1, 5]), np.array([0, 1])))
        lightest.append(float(made.sample(8, np.random.default_rng(0)).weight.min()))
    assert lightest == pytest.approx([3**-0.5, 1 / 3])


def test_an_error_that_is_no_number_is_refused_with_its_event() -> None:
    made = learnt_pair()
    draw = made.sample(1, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"TD error of event 1 is nan, must be finite; training has diverged"):
        made.update(draw, torch.tensor([[1.0, float("nan")]]), torch.tensor([[True, True]]))


def test_nothing_to_draw_from_is_refused() -> None:
    made = PrioritizedWindows(6, RULE)
    with pytest.raises(RuntimeError, match="cut must be called"):
        made.sample(1, np.random.default_rng(0))
    with pytest.raises(UserError, match="0 windows"):
        made.cut(PAIR.take(np.empty(0, np.int64)))
