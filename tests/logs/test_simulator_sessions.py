"""Simulated users as networks and gymnasium see them: the same tokens as the offline state, one step at a time."""

import importlib
import sys

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from recsys.errors import UserError
from recsys.logs.simulator import RESPONSES
from recsys.logs.simulator_environment import RecommendationEnv
from recsys.logs.simulator_policies import optimal_policy, segment_policy
from recsys.logs.simulator_sessions import BatchedSessions, play
from recsys.logs.simulator_stream import EPOCH_S
from recsys.mdp.state import History, empty_history, encode_states
from tests.logs.simulator_worlds import small_world

TYPES = ("cancellation", "click", "impression", "purchase")


def batched(users=6, max_events=5, seed=1, **settings):
    return BatchedSessions(small_world(), users, max_events, np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("keeps_silence", [True, False])
def test_states_are_those_of_the_one_function_for_histories(keeps_silence):
    """Twelve steps, five tokens kept: told event by event, then encoded as offline and live."""
    sessions = batched(users=8, event_types=TYPES, keeps_silence=keeps_silence)
    told = [[] for _ in range(8)]
    session = np.zeros(8, int)
    generator = np.random.default_rng(0)
    for _ in range(12):
        item = generator.integers(40, size=8)
        present, clock = ~sessions.ended, sessions.clock.copy()
        step = sessions.step(item)
        for user in np.flatnonzero(present):
            if keeps_silence or step.response[user]:
                code = TYPES.index(RESPONSES[step.response[user]])
                told[user].append((item[user], code, step.reward[user], clock[user], session[user]))
            session[user] += step.session_ended[user]
        histories = [history(events, sessions.users.segment[user] + 1) for user, events in enumerate(told)]
        expected, found = encode_states(histories, 5), sessions.state()
        for name in expected.__dataclass_fields__:
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert session.max() > 0
    some = np.array([5, 2])
    assert torch.equal(sessions.state(some).item[0, :1], sessions.state().item[5, :1])


def history(events, attribute):
    if not events:
        return empty_history(np.array([attribute], np.int32))
    item, code, reward, clock, session = (np.array(column) for column in zip(*events, strict=True))
    return History(item, code, reward, clock, session, np.array([attribute], np.int32))


def test_who_has_ended_stands_still_and_earns_nothing_until_restarted():
    sessions = batched(users=50)
    while not sessions.ended.any():
        sessions.step(np.zeros(50, int))
    gone = np.flatnonzero(sessions.ended)
    tokens = sessions.state(gone).item.clone()
    step = sessions.step(np.zeros(50, int))
    assert not step.reward[gone].any()
    assert not step.terminated[gone].any()
    assert torch.equal(sessions.state(gone).item, tokens)
    ended = np.flatnonzero(sessions.ended)
    others = np.flatnonzero(~sessions.ended)
    kept = sessions.state(others)
    assert np.array_equal(sessions.restart(), ended)
    assert not sessions.ended.any()
    assert not sessions.state(ended).lengths.any()
    assert set(sessions.clock[ended]) == {EPOCH_S}
    assert torch.equal(sessions.state(others).item, kept.item)


def test_the_step_limit_truncates_and_does_not_terminate():
    sessions = batched(users=200, max_steps=3)
    for _ in range(2):
        assert not sessions.step(np.zeros(200, int)).truncated.any()
    present = ~sessions.ended
    step = sessions.step(np.zeros(200, int))
    assert (step.truncated ^ step.terminated)[present].all()
    assert sessions.ended.all()


def test_playing_states_earns_what_the_policy_is_worth():
    world = small_world()
    best = np.zeros((2, 40))
    best[:, 11] = 1.0
    policy = segment_policy("one item", best)
    sessions = BatchedSessions(world, 4000, 5, np.random.default_rng(0), knows_segments=False)
    lives = play(sessions, lambda state: torch.full((len(state.lengths),), 11), discount=0.9)
    mean, half = lives.interval()
    assert mean == pytest.approx(policy.start_value(world, 0.9), abs=2 * half)
    assert not sessions.state().attributes.any()
    sessions = BatchedSessions(world, 4000, 5, np.random.default_rng(0))
    oracle = optimal_policy(world)
    lives = play(sessions, lambda state: oracle.item[sessions.users.at(~sessions.ended).hidden])
    mean, half = lives.interval()
    assert mean == pytest.approx(oracle.start_value(world), abs=2 * half)


def test_items_outside_the_catalogue_and_unknown_codes_are_refused():
    with pytest.raises(UserError, match=r"item indices reach from 0 to 40, must lie in 0 to 39"):
        batched().step(np.array([0, 1, 40, 0, 0, 0]))
    with pytest.raises(UserError, match=r"lack impression"):
        batched(event_types=("click", "purchase"))
    with pytest.raises(UserError, match=r"users is 0, must be at least 1"):
        batched(users=0)


def test_gymnasium_finds_nothing_wrong_with_the_environment(recwarn):
    check_env(RecommendationEnv(small_world(), max_events=6), skip_render_check=True)
    assert [str(warning.message) for warning in recwarn if "gymnasium" in warning.filename] == []


def test_the_environment_repeats_itself_for_a_seed():
    def life(seed):
        environment = RecommendationEnv(small_world(), max_events=6)
        observation, _ = environment.reset(seed=seed)
        seen, ended = [observation], False
        while not ended:
            observation, reward, terminated, truncated, info = environment.step(np.int64(len(seen) % 40))
            assert environment.observation_space.contains(observation)
            seen.append((reward, terminated, truncated, info["response"]))
            ended = terminated or truncated
        return seen[1:], observation["item"].tolist()

    assert life(3) == life(3)
    assert life(3) != life(4)


def test_the_environment_says_terminated_or_truncated_and_then_asks_for_a_reset():
    environment = RecommendationEnv(
        small_world(return_share=(0.0,) * 5, session_end=(1.0,) * 3), max_events=4
    )
    with pytest.raises(UserError, match=r"call reset\(\) first"):
        environment.step(np.int64(0))
    environment.reset(seed=0)
    assert environment.step(np.int64(0))[2:4] == (True, False)
    with pytest.raises(UserError, match=r"call reset\(\) first"):
        environment.step(np.int64(0))
    limited = RecommendationEnv(small_world(session_end=(1e-9,) * 3), max_events=4, max_steps=1)
    limited.reset(seed=0)
    assert limited.step(np.int64(0))[2:4] == (False, True)


def test_without_gymnasium_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "recsys.logs.simulator_environment")
    with pytest.raises(UserError, match=r"metaq\[simulator\]"):
        importlib.import_module("recsys.logs.simulator_environment")
