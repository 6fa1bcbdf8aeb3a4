"""Tianshou's update as its trainers run it.

python tianshou_peer.py LOG dqn|double
"""

import sys

import gymnasium
import numpy as np
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import ReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.torch_utils import policy_within_training_step
from worker import ACTIONS, BATCH, DISCOUNT, FEATURES, HIDDEN, LEARNING_RATE, TARGET_INTERVAL, read_log, serve

log = read_log(sys.argv[1])
buffer = ReplayBuffer.from_data(
    obs=log["state"],
    act=log["action"],
    rew=log["reward"],
    terminated=log["end"],
    truncated=np.zeros_like(log["end"]),
    done=log["end"],
    obs_next=np.roll(log["state"], -1, axis=0),
)
network = Net(state_shape=(FEATURES,), action_shape=ACTIONS, hidden_sizes=list(HIDDEN))
policy = DiscreteQLearningPolicy(model=network, action_space=gymnasium.spaces.Discrete(ACTIONS))
algorithm = DQN(
    policy=policy,
    optim=AdamOptimizerFactory(lr=LEARNING_RATE),
    gamma=DISCOUNT,
    target_update_freq=TARGET_INTERVAL,
    is_double=sys.argv[2] == "double",
    huber_loss_delta=1.0,
)


def step() -> None:
    """Take one update."""
    with policy_within_training_step(policy):
        algorithm.update(buffer=buffer, sample_size=BATCH)


serve(step)
