"""A world small enough to solve by hand: what pays later must be worth more than what pays at once.

Users walk down one of two aisles of new items. In one every second item pays 1, in the other every first one
0.3; the rest pay 0.02, because an event without reward supports nothing. With discount 1/2 and no way between
the aisles that the log supports, items are worth 0.52 / 0.75 and 1.01 / 0.75 by turns in the first aisle,
0.31 / 0.75 and 0.17 / 0.75 in the other.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.target_network import frozen_copy, soft_update
from recsys.mdp.state import encode_states
from recsys.models.q_network import QNetwork
from tests.factories import tiny_shape
from tests.memory_log import Event, history

LENGTH, UPDATES = 8, 250
LATER = history(*(Event(place, reward=(0.02, 1.0)[place % 2]) for place in range(LENGTH)))
AT_ONCE = history(*(Event(LENGTH + place, reward=(0.3, 0.02)[place % 2]) for place in range(LENGTH)))


@pytest.mark.parametrize(("target", "n_step"), [("supported_max", 1), ("sarsa", 3)])
def test_values_come_near_the_fixed_point_and_put_the_delayed_reward_first(target: str, n_step: int) -> None:
    torch.manual_seed(0)
    network = QNetwork(replace(tiny_shape(2 * LENGTH, features=24), hidden=24), temperature=0.1)
    settings = PretrainConfig(
        target=target,
        n_step=n_step,
        discount=0.5,
        bootstrap_candidates=3,
        negatives=32,
        conservative_weight=0.0,
    )
    learner = DQNLearner(
        network,
        frozen_copy(network),
        NegativeSampler.from_popularity(np.ones(2 * LENGTH, np.float32)),
        settings,
        (0.0, 2.0),
        torch.Generator().manual_seed(0),
    )
    batch = encode_states([LATER, AT_ONCE], 20)
    optimizer = optimizer_for(network, 0.01, 0.0)
    for update in range(UPDATES):
        if update % 20 == 0:
            learner.refresh_index()
        step(optimizer, learner.losses(batch, warmup=update < 40).total, rate_factor=1 - update / UPDATES)
        soft_update(learner.target, network, 0.1)
    network.eval()
    with torch.no_grad():
        states = network.state_vectors(batch)
        vectors, bias = network.tower.table()
        q = states.value[..., None] + states.advantage @ vectors.T + bias * network.temperature
    worth = [[float(q[row, place, row * LENGTH + place]) for place in range(1, 4)] for row in range(2)]
    assert worth[0] == pytest.approx([1.01 / 0.75, 0.52 / 0.75, 1.01 / 0.75], abs=0.1)
    assert worth[1] == pytest.approx([0.17 / 0.75, 0.31 / 0.75, 0.17 / 0.75], abs=0.1)
    assert q[0, 0, 0] > q[0, 0, LENGTH] + 0.1  # though the other aisle pays at once
