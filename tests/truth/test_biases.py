"""What moves a fixed point away from the optimum: by how much, held against solutions found without the learner."""

import numpy as np
import pytest
from scipy.optimize import minimize

from tests.truth.tabular import Process, Table, everything, learnt, new_learner, random_process, settings

STATES, ACTIONS = 6, 3


def regularised_solution(process: Process, weight: float, temperature: float) -> Table:
    """Fitted Q-iteration whose every fit is a convex problem solved by BFGS.

    min over q of Σ_a π_b(a|s) [ (q_a − y_a)² / 2 + weight (log Σ exp(q / τ) − q_a / τ) ],   y = r + P γ max q.
    """

    def fit(policy: Table, goal: Table) -> Table:
        def objective(q: Table) -> tuple[float, Table]:
            scaled = q / temperature
            top = scaled.max()
            log_sum = top + np.log(np.exp(scaled - top).sum())
            loss = policy @ (0.5 * (q - goal) ** 2 + weight * (log_sum - scaled))
            softmax = np.exp(scaled - log_sum)
            return loss, policy * (q - goal) + weight / temperature * (softmax - policy)

        return minimize(objective, goal, jac=True, method="BFGS", options={"gtol": 1e-9}).x

    q = np.zeros_like(process.policy)
    for _ in range(80):
        goal = process.backed_up(q.max(1))
        q = np.stack([fit(process.policy[s], goal[s]) for s in range(len(q))])
    return q


@pytest.mark.parametrize(("weight", "temperature"), [(0.02, 1.0), (0.1, 1.0), (0.02, 0.5)])
def test_the_conservative_term_moves_q_to_the_regularised_solution(weight: float, temperature: float) -> None:
    process = random_process(0)
    made = new_learner(settings(conservative_weight=weight), STATES, ACTIONS, temperature)
    found = learnt(made, everything(process))
    np.testing.assert_allclose(found, regularised_solution(process, weight, temperature), atol=2e-3)
    bias = found - process.optimal()
    rare = ~process.supported
    assert bias[rare].mean() < -0.1  # what the log hardly does is pushed down …
    assert bias[rare].mean() < bias[~rare].mean() - 0.1  # … more than what it does


@pytest.mark.parametrize("n_step", [2, 3])
def test_steps_that_follow_the_log_keep_a_maximum_from_the_optimum(n_step: int) -> None:
    process = random_process(1)
    made = new_learner(settings(n_step=n_step), STATES, ACTIONS)
    found = learnt(made, everything(process, n_step))
    np.testing.assert_allclose(found, process.n_step_optimum(n_step), atol=1e-3)
    assert (process.optimal() - found).max() > 0.3  # never above it: the log acts no better than the best
    assert (process.optimal() - found).min() > -1e-3
