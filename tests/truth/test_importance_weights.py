"""Prioritized replay with its weights learns what uniform replay learns; without them, something else.

Outcomes are unlike: one in four pays much. Transitions that surprise are drawn more often, so without weights the rare
outcome counts for more than its share.
"""

from dataclasses import replace

import numpy as np
import torch

from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.target_network import soft_update
from recsys.mdp.priorities import PriorityRule
from recsys.mdp.replay_buffer import PrioritizedReplay
from recsys.mdp.transition_store import RingStore, vector_schema
from tests.truth.tabular import Process, Table, new_learner, q_table, random_process, settings

STATES, ACTIONS, LOGGED = 4, 2, 2000


def lottery() -> Process:
    """A process whose rarer successors pay 2."""
    process = random_process(0, STATES, ACTIONS, discount=0.5)
    first = process.chance.argmax(2)[:, :, None] == np.arange(STATES)
    chance = np.where(process.chance > 0, np.where(first, 0.75, 0.25), 0.0)
    return replace(process, chance=chance, reward=np.where(first, 0.0, 2.0))


def logged(process: Process, generator: np.random.Generator) -> tuple[RingStore, Process]:
    """Return a log of single steps and the process that its frequencies describe."""
    state = generator.integers(STATES, size=LOGGED)
    action = (generator.random(LOGGED) > process.policy[state, 0]).astype(np.int64)
    chances = process.chance[state, action].cumsum(1)
    following = (generator.random(LOGGED)[:, None] > chances).sum(1)
    eye = np.eye(STATES, dtype=np.float32)
    store = RingStore(LOGGED, vector_schema(STATES))
    store.append(
        {
            "state": eye[state],
            "action": action,
            "n_step_return": process.reward[state, action, following],
            "bootstrap": process.discount[state, action, following],
            "next_state": eye[following],
            "next_action": np.full(LOGGED, -1),
        }
    )
    counts = np.zeros_like(process.chance)
    np.add.at(counts, (state, action, following), 1)
    return store, replace(process, chance=counts / counts.sum(2, keepdims=True))


def learnt_by_priority(store: RingStore, *, weighted: bool) -> Table:
    made = new_learner(settings(), STATES, ACTIONS)
    replay = PrioritizedReplay(store, PriorityRule(alpha=0.6, beta=1.0))
    generator = np.random.default_rng(1)
    optimizer = optimizer_for(made.network, 0.02, 0.0)
    for update in range(1, 1001):
        batch = replay.sample(2048, generator)
        if not weighted:
            batch = replace(batch, weight=torch.ones(len(batch)))
        losses = made.losses(batch)
        step(optimizer, losses.total, 1 - update / 1001, None)
        assert losses.figures is not None
        replay.update(batch.index, losses.figures.td_error)
        soft_update(made.target, made.network, 0.05)
    return q_table(made)


def test_weights_undo_the_bias_of_prioritized_sampling() -> None:
    store, empirical = logged(lottery(), np.random.default_rng(0))
    wanted = empirical.optimal()
    with_weights = np.abs(learnt_by_priority(store, weighted=True) - wanted).max()
    without = np.abs(learnt_by_priority(store, weighted=False) - wanted).max()
    assert with_weights < 0.02
    assert without > 0.2
