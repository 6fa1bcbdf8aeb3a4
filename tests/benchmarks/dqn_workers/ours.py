"""Our update through the real replay and learner, under the products and in the memory that the pipeline trains with.

Between two copies of the target network every next state is asked about once. Those passes come soon after a copy; so
that the measurement holds its share of them, as many next states as an average update pays for are forgotten at each.

python ours.py LOG dqn|double|cql|prioritized|sample|sample-prioritized
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from worker import ACTIONS, BATCH, DISCOUNT, FEATURES, HIDDEN, LEARNING_RATE, TARGET_INTERVAL, read_log, serve

from recsys.config import PretrainConfig
from recsys.learning.device import fast_products, kept_memory
from recsys.learning.dqn import DQNLearner
from recsys.learning.optimizer import optimizer_for
from recsys.learning.optimizer import step as optimizer_step
from recsys.learning.remembered import RememberedTarget
from recsys.learning.target_network import TargetSchedule, frozen_copy
from recsys.mdp.builder import ReturnRule
from recsys.mdp.priorities import PriorityRule
from recsys.mdp.replay_buffer import PrioritizedReplay, Replay, UniformReplay
from recsys.mdp.replay_log import VectorLog, vector_columns
from recsys.mdp.transition_store import StoreWriter, open_store, vector_schema
from recsys.models.vector_network import VectorNetwork, VectorShape

UPDATES_BEFORE = 800  # until all is remembered

path, kind = sys.argv[1:]
log = read_log(path)
offsets = np.concatenate([[0], np.flatnonzero(log["end"]) + 1])
columns = vector_columns(
    VectorLog(
        state=log["state"],
        action=log["action"],
        reward=log["reward"],
        timestamp=np.zeros(len(log["action"]), np.int64),
        offsets=offsets,
        final_state=log["state"][offsets[1:] % len(log["state"])],
        terminal=np.ones(len(offsets) - 1, bool),
    ),
    ReturnRule(n_step=1, discount=DISCOUNT),
)
folder = Path(tempfile.mkdtemp(dir=Path(path).parent))
with StoreWriter(folder, vector_schema(FEATURES)) as writer:
    writer.append(columns)
store = open_store(folder)
prioritized = kind in ("prioritized", "sample-prioritized")
replay: Replay = PrioritizedReplay(store, PriorityRule()) if prioritized else UniformReplay(store)
network = VectorNetwork(VectorShape(FEATURES, ACTIONS, HIDDEN))
target = frozen_copy(network)
config = PretrainConfig(
    warmup_epochs=0,
    learning_rate=LEARNING_RATE,
    weight_decay=0.0,
    discount=DISCOUNT,
    n_step=1,
    target="max",
    double=kind in ("double", "cql"),
    clip_targets=False,
    supervised_weight=0.0,
    return_weight=0.0,
    conservative_weight=1.0 if kind == "cql" else 0.0,
    temperature=1.0,
    target_tau=1.0,
    target_interval=TARGET_INTERVAL,
)
remembered = (
    None if kind.startswith("sample") else RememberedTarget(target, np.asarray(store.columns["next_state"]))
)
chance_of_network = torch.Generator().manual_seed(0)
learner = DQNLearner(network, target, None, config, None, chance_of_network, remembered=remembered)
optimizer = optimizer_for(network, config.learning_rate, config.weight_decay)
schedule = TargetSchedule.of(config)
chance = np.random.default_rng(0)
update = 0


def step() -> None:
    """Take one update."""
    global update
    batch = replay.sample(BATCH, chance)
    losses = learner.losses(batch)
    optimizer_step(optimizer, losses.total, max_gradient_norm=None)
    if prioritized and losses.figures is not None:
        replay.update(batch.index, losses.figures.td_error)
    update += 1
    schedule.follow(target, network, update)
    if remembered is not None and update > UPDATES_BEFORE:
        forget_a_share(remembered)


def forget_a_share(remembered: RememberedTarget) -> None:
    """Forget a whole batch once in as many updates as pay for one: N / batch batches in C updates."""
    every = round(TARGET_INTERVAL * BATCH / len(log["action"]))
    if update % every == 0:
        first = (update // every * BATCH) % (len(log["action"]) - BATCH)
        remembered.forget(torch.arange(first, first + BATCH))


def sample() -> None:
    """Draw one batch."""
    replay.sample(BATCH, chance)


with fast_products(), kept_memory():
    for _ in range(0 if kind.startswith("sample") else UPDATES_BEFORE):
        step()
    serve(sample if kind.startswith("sample") else step)
