"""n-step returns held against a table computed by hand and a brute-force sum."""

import numpy as np
import pytest
import torch

from recsys.mdp.builder import n_step_returns

REWARD = torch.tensor([[1.0, 2.0, 4.0, 8.0], [3.0, 5.0, 9.0, 9.0]])
LENGTHS = torch.tensor([4, 2])  # what stands behind the second row's end must not count


def test_returns_are_those_computed_by_hand() -> None:
    returns, next_state, factor = n_step_returns(REWARD, LENGTHS, discount=0.5, n_step=2)
    # 1 + 2/2, 2 + 4/2, 4 + 8/2; the last step is truncated: one reward, bootstrap from the last state
    assert returns.tolist() == [[2.0, 4.0, 8.0, 8.0], [5.5, 5.0, 0.0, 0.0]]
    assert next_state.tolist() == [[2, 3, 4, 4], [2, 2, 0, 0]]
    assert factor.tolist() == [[0.25, 0.25, 0.25, 0.5], [0.25, 0.5, 0.0, 0.0]]


def test_one_step_is_the_reward_and_the_state_after_it() -> None:
    returns, next_state, factor = n_step_returns(REWARD, LENGTHS, discount=0.9, n_step=1)
    assert returns.tolist() == [[1.0, 2.0, 4.0, 8.0], [3.0, 5.0, 0.0, 0.0]]
    assert next_state.tolist() == [[1, 2, 3, 4], [1, 2, 0, 0]]
    assert factor[0].tolist() == pytest.approx([0.9] * 4)


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_step", [1, 3, 10])  # 10 is longer than any history here
def test_returns_equal_a_loop_over_events(discount: float, n_step: int) -> None:
    generator = np.random.default_rng(0)
    reward, lengths = generator.normal(size=(5, 7)), np.array([0, 1, 3, 6, 7])
    returns, next_state, factor = n_step_returns(
        torch.from_numpy(reward.astype(np.float32)), torch.from_numpy(lengths), discount, n_step
    )
    for row, length in enumerate(lengths):
        for step in range(7):
            steps = max(0, min(n_step, length - step))
            expected = sum(discount**j * reward[row, step + j] for j in range(steps))
            assert float(returns[row, step]) == pytest.approx(expected, abs=1e-5)
            assert int(next_state[row, step]) == (step + steps if steps else 0)
            assert float(factor[row, step]) == pytest.approx(discount**steps if steps else 0.0)
