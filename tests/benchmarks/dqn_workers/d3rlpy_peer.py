"""d3rlpy's update as its own fitter runs it: sample from its replay buffer, then update.

python d3rlpy_peer.py LOG dqn|double|cql
"""

import sys

import d3rlpy
from worker import ACTIONS, BATCH, DISCOUNT, HIDDEN, LEARNING_RATE, TARGET_INTERVAL, read_log, serve

log = read_log(sys.argv[1])
dataset = d3rlpy.dataset.MDPDataset(
    observations=log["state"],
    actions=log["action"],
    rewards=log["reward"],
    terminals=log["end"].astype("float32"),
    action_space=d3rlpy.ActionSpace.DISCRETE,
    action_size=ACTIONS,
)
kinds = {
    "dqn": d3rlpy.algos.DQNConfig,
    "double": d3rlpy.algos.DoubleDQNConfig,
    "cql": d3rlpy.algos.DiscreteCQLConfig,
}
algorithm = kinds[sys.argv[2]](
    batch_size=BATCH,
    gamma=DISCOUNT,
    learning_rate=LEARNING_RATE,
    target_update_interval=TARGET_INTERVAL,
    encoder_factory=d3rlpy.models.VectorEncoderFactory(hidden_units=list(HIDDEN)),
).create(device="cpu:0")
algorithm.build_with_dataset(dataset)
serve(lambda: algorithm.update(dataset.sample_transition_batch(BATCH)))
