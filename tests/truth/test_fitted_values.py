"""Fitted Q evaluation finds what a policy is worth, whoever logged and whatever that policy thinks of itself."""

import numpy as np
import pytest
import torch

from recsys.learning.dqn import DQNLearner
from recsys.models.vector_network import VectorNetwork, VectorShape
from tests.truth.tabular import Process, Table, everything, learnt, new_learner, random_process, settings

CLOSE = 1e-3


def thinking(q_value: Table) -> VectorNetwork:
    """Return a network over a table that holds these Q-values."""
    states, actions = q_value.shape
    network = VectorNetwork(VectorShape(states, actions, hidden=()))
    with torch.no_grad():
        network.actions.weight.copy_(torch.from_numpy(q_value.T))
        network.actions.bias.zero_()
    return network


def evaluated(process: Process, policy: VectorNetwork, **changes: object) -> Table:
    """Return what the log of a process says of a policy."""
    states, actions = process.policy.shape
    bare = new_learner(settings(**changes), states, actions)
    made = DQNLearner(bare.network, bare.target, None, bare.config, None, bare.generator, policy=policy)
    return learnt(made, everything(process))


@pytest.mark.parametrize("seed", range(3))
def test_the_value_of_a_policy_is_found_from_another_policys_log(seed: int) -> None:
    process = random_process(seed)
    opinion = (
        np.random.default_rng(seed).normal(size=process.policy.shape) + 100.0
    )  # it promises far too much
    chosen = opinion.argmax(1)
    wanted = process.fixed_point(lambda q: q[np.arange(len(q)), chosen])
    found = evaluated(process, thinking(opinion))
    assert float(np.abs(found - wanted).max()) < CLOSE
    # neither the best policy nor the one that logged
    assert float(np.abs(wanted - process.optimal()).max()) > 0.2
    assert float(np.abs(wanted - process.of_policy()).max()) > 0.1


def test_the_best_policy_is_found_to_keep_what_it_promises() -> None:
    process = random_process(2)
    optimum = process.optimal()
    assert float(np.abs(evaluated(process, thinking(optimum)) - optimum).max()) < CLOSE


@pytest.mark.parametrize("changes", [{"target": "sarsa", "return_weight": 1.0}, {"double": False}])
def test_a_rule_that_asks_nobody_else_refuses_a_policy(changes: dict[str, object]) -> None:
    process = random_process(0)
    with pytest.raises(ValueError, match="a policy chooses where the first is a maximum and the second true"):
        evaluated(process, thinking(process.optimal()), **changes)
