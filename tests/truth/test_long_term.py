"""In a world where the next response misleads, Q-learning from a log brings users to more than cross-entropy does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.experiments.long_term import cross_entropy_settings, small_world, teacher_settings
from pipelines.experiments.long_term_learn import (
    Learning,
    fresh_network,
    joined_lives,
    learn_offline,
    without_silence,
)
from pipelines.experiments.long_term_play import Behavior, RecurrentActor, play_network
from recsys.logs.prepared import PreparedLog
from recsys.logs.simulator import NONE, make_world
from recsys.logs.simulator_policies import logging_policy
from recsys.logs.simulator_prepared import prepared_actions
from recsys.logs.simulator_sessions import BatchedSessions
from recsys.logs.simulator_stream import simulate
from recsys.models.q_network import q_of_candidates
from recsys.randomness import numpy_generator

WORLD = make_world(small_world(30), 3)


def a_log(users: int) -> PreparedLog:
    segment, actions = simulate(WORLD, logging_policy(WORLD), users, numpy_generator(3, "log"), 90.0)
    return prepared_actions(WORLD, segment, actions)


def test_reading_token_by_token_gives_q_of_the_whole_history() -> None:
    log = a_log(20)
    network = fresh_network(log, Learning(teacher_settings()), 1).eval()
    torch.nn.init.normal_(network.states.tokens.event_type.weight)
    whole = BatchedSessions(WORLD, 30, 200, numpy_generator(5, "play"), log.info.event_types)
    newest = BatchedSessions(WORLD, 30, 2, numpy_generator(5, "play"), log.info.event_types)
    actor = RecurrentActor(network, newest)
    vectors, _ = network.tower.table()
    side = replace(network.item_side(torch.arange(30)), vectors=vectors)
    with torch.no_grad():
        for _ in range(12):
            rows = np.flatnonzero(~whole.ended)
            batch = whole.state(rows)
            states = network.state_vectors(batch)
            at = torch.arange(len(rows)), batch.lengths
            wanted = q_of_candidates(states.advantage[at], states.value[at], side)
            torch.testing.assert_close(actor.q_values(rows), wanted, atol=1e-5, rtol=1e-5)
            item = np.zeros(30, np.int64)
            item[rows] = wanted.argmax(dim=1).numpy()
            whole.step(item), newest.step(item)
            actor.read(np.flatnonzero(~newest.ended))


def test_what_a_network_showed_is_a_log_like_any_other() -> None:
    log = a_log(20)
    network = fresh_network(log, Learning(teacher_settings()), 1)
    play = [
        play_network(WORLD, network, 15, numpy_generator(seed, "p"), 0.9, log.info.event_types, Behavior(0.5))
        for seed in (1, 2)
    ]
    joined = joined_lives(WORLD, play)
    assert joined.info.users == 30
    assert np.diff(joined.history_offsets).tolist() == [*play[0].lives.steps, *play[1].lives.steps]
    ends = joined.history_offsets[1:]
    returns = np.add.reduceat(joined.reward.astype(np.float64), joined.history_offsets[:-1])
    assert returns == pytest.approx([*play[0].lives.returns, *play[1].lives.returns], abs=1e-5)
    assert (joined.session[ends - 1] + 1).tolist() == [*play[0].lives.sessions, *play[1].lives.sessions]
    assert (without_silence(play[0].actions).response != NONE).all()


def test_a_teacher_from_the_log_beats_cross_entropy_from_the_same_log() -> None:
    log = a_log(3000)
    returns = {}
    of_both = ("teacher", teacher_settings()), ("cross-entropy", cross_entropy_settings())
    for name, settings in of_both:
        shorter = settings.model_copy(update={"epochs": 3})  # half of the time, and enough for the gap
        network = learn_offline(log, Learning(shorter), 1)
        played = play_network(WORLD, network, 1000, numpy_generator(9, "play"), 0.9, log.info.event_types)
        returns[name] = played.lives.returns
    gap = returns["teacher"] - returns["cross-entropy"]
    assert gap.mean() - 1.96 * gap.std() / np.sqrt(len(gap)) > 0.1, {n: r.mean() for n, r in returns.items()}
