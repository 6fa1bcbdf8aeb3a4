"""What stands under the family of CartPoles: its dynamics, its supports, and an inner loop that tells signs apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.experiments.cartpole_family_table import table
from pipelines.experiments.cartpole_meta import MetaLearner, MetaSettings
from pipelines.experiments.cartpole_presets import FAMILY, Preset
from pipelines.experiments.cartpole_replay import TaskReplay
from pipelines.experiments.cartpole_tasks import (
    Episode,
    Players,
    Task,
    draw_tasks,
    refuse_seen,
    single_environment,
)
from recsys.errors import UserError
from recsys.mdp.transition import TransitionBatch
from recsys.randomness import numpy_generator

TASKS = [Task(0.5, 9.8, 10.0), Task(0.3, 14.0, -7.0), Task(0.9, 5.5, 13.0), Task(0.7, 12.0, -10.0)]


def test_tasks_that_step_together_move_as_gymnasium_moves_each() -> None:
    players, chance = Players(TASKS, seed=3), np.random.default_rng(0)
    singles = [single_environment(task) for task in TASKS]
    lengths = np.zeros(len(TASKS), int)
    for place, single in enumerate(singles):
        single.reset(seed=0)
        single.unwrapped.state = players.environment.state[:, place].copy()  # type: ignore[attr-defined]
    left = set(range(len(TASKS)))
    while left:
        action = chance.integers(0, 2, len(TASKS))
        ended = {episode.place: episode for episode in players.step(action)}
        for place in sorted(left):
            state, _, fell, _, _ = singles[place].step(int(action[place]))
            lengths[place] += 1
            np.testing.assert_allclose(players.state[place], state, atol=1e-6)
            assert fell == (place in ended)
            if fell:
                left.remove(place)
                episode = ended[place]
                assert episode.ended
                assert len(episode.actions) == lengths[place]
                np.testing.assert_allclose(episode.states[-1], state, atol=1e-6)


def test_the_same_push_goes_the_other_way_where_the_force_is_flipped() -> None:
    players = Players([Task(0.5, 9.8, 10.0), Task(0.5, 9.8, -10.0)], seed=0)
    players.environment.state = np.zeros((4, 2))
    players.step(np.array([1, 1]))
    assert players.state[0, 1] > 0
    np.testing.assert_allclose(players.state[0], -players.state[1])


def test_unseen_tasks_share_no_constant_with_training_tasks() -> None:
    training = draw_tasks(32, numpy_generator(1, "family-training-tasks"))
    unseen = draw_tasks(40, numpy_generator(1, "family-test-tasks"))
    refuse_seen(unseen, training)
    assert sum(task.flipped for task in unseen) == 20
    with pytest.raises(UserError, match="must be new"):
        refuse_seen([Task(0.5, 9.0, -training[0].force)], training)


def episode(place: int, first: float, steps: int) -> Episode:
    states = np.full((steps + 1, 4), place, np.float32)
    states[:, 0] = first + np.arange(steps + 1)
    return Episode(place, states, np.zeros(steps, np.int64), True)


def test_a_support_is_what_the_life_has_seen_of_its_own_task() -> None:
    replay, chance = TaskReplay(2, 100, FAMILY), np.random.default_rng(0)
    for place in (0, 1):
        replay.begin_life(place)
        replay.add(place, episode(place, 0.0, 30))
    replay.begin_life(1)
    both = np.array([0, 1])
    rows, present = replay.supports(both, 40, chance)
    assert present.sum(axis=1).tolist() == [30, 0]  # a new life has seen nothing
    replay.add(1, episode(1, 100.0, 5))
    replay.add(1, episode(1, 200.0, 50))
    rows, present = replay.supports(both, 40, chance)
    state = rows.state.view(2, 40, 4).numpy()
    assert present.sum(axis=1).tolist() == [30, 40]  # the longer one is thinned out, in order
    assert (state[0, :30, 0] == np.arange(30)).all()
    assert state[1, :, 0].min() >= 100
    assert (np.diff(state[1, :, 0]) >= 0).all()
    assert (state[1, :, 1] == 1).all()
    assert (rows.next_state - rows.state).view(2, 40, 4)[1, :, 0].tolist() == [
        1.0
    ] * 40  # one-step transitions
    first, there = replay.first(both, 40, chance)
    assert there.sum(axis=1).tolist() == [30, 40]
    assert first.state.view(2, 40, 4)[1, :, 0].tolist() == [*range(100, 105), *range(200, 235)]
    queries = replay.queries(both, 200, chance).state.view(2, 200, 4)
    assert (queries[0, :, 1] == 0).all()
    assert (queries[1, :, 1] == 1).all()


def line_walk(sign: np.ndarray, size: np.ndarray, count: int, chance: np.random.Generator) -> TransitionBatch:
    """Draw transitions on a line: actions move by ± size, which way depends on the task; far from zero costs."""
    x = chance.uniform(-1, 1, (len(sign), count))
    action = chance.integers(0, 2, x.shape)
    moved = x + (2 * action - 1) * (sign * size)[:, None]
    states = np.zeros((2, x.size, 4), np.float32)
    states[0, :, 0], states[1, :, 0] = x.ravel(), moved.ravel()
    some = np.ones(x.size, np.float32)
    return TransitionBatch(
        state=torch.from_numpy(states[0]),
        action=torch.from_numpy(action.ravel()),
        n_step_return=torch.from_numpy(-np.square(states[1, :, 0])),
        bootstrap=torch.from_numpy(0.5 * some),
        next_state=torch.from_numpy(states[1]),
        next_action=torch.full((x.size,), -1),
        weight=torch.from_numpy(some),
        index=torch.arange(x.size),
    )


def test_a_handful_of_transitions_tells_which_action_goes_which_way() -> None:
    chance = np.random.default_rng(1)
    preset = Preset((32, 32), 3e-3, True, 0.5, 1, 128, 1, 0, 1, 0.1, 0.1, 20)
    learner = MetaLearner(preset, MetaSettings(features=4, tasks=8, support=5), updates=400, seed=1)
    for _ in range(400):
        sign, size = chance.choice([-1.0, 1.0], 8), chance.uniform(0.1, 0.3, 8)
        present = np.arange(5) < chance.integers(0, 6, 8)[:, None]
        learner.learn(line_walk(sign, size, 5, chance), present, line_walk(sign, size, 16, chance))
    sign, size = np.tile([-1.0, 1.0], 50), chance.uniform(0.11, 0.29, 100)
    support = line_walk(sign, size, 5, chance)
    asked = torch.zeros((100, 4))
    asked[:, 0] = torch.from_numpy(chance.choice([-1, 1], 100) * chance.uniform(0.3, 0.9, 100))
    right = np.where(asked[:, 0].numpy() * sign < 0, 1, 0)  # towards zero

    def share_right(shots: int) -> np.ndarray:
        present = np.tile(np.arange(5) < shots, (100, 1))
        chosen = learner.q_all(asked, learner.fast(support, present)).argmax(dim=1).numpy()
        return np.array([(chosen == right)[sign == each].mean() for each in (-1.0, 1.0)])

    assert share_right(5).min() > 0.95
    unadapted = share_right(0)
    assert unadapted.min() < 0.6  # nothing can be right for both signs
    assert unadapted.sum() == pytest.approx(1.0, abs=0.25)


def test_without_support_the_adapted_q_is_the_meta_q() -> None:
    learner = MetaLearner(FAMILY, MetaSettings(support=3), updates=1, seed=2)
    torch.nn.init.normal_(learner.network.prior.mean)
    rows = line_walk(np.ones(2), np.ones(2), 3, np.random.default_rng(0))
    fast = learner.fast(rows, np.zeros((2, 3), bool))
    assert torch.equal(fast, learner.network.prior.mean.detach().expand(2, -1))
    moved = learner.fast(rows, np.ones((2, 3), bool))
    assert (moved - fast).abs().max() > 1e-3


def test_the_table_gives_paired_differences(tmp_path: Path) -> None:
    tasks = [{"length": 0.5, "gravity": 9.8, "force": force} for force in (9.0, -9.0)]
    returns = {
        "adapted": {"0": [10.0, 20.0], "10": [310.0, 220.0]},
        "another task's": {"10": [9.0, 9.0]},
        "multi-task": {"0": [300.0, 10.0]},
        "fresh, same episodes": {"0": [10.0, 10.0], "10": [210.0, 120.0]},
        "fresh, own episodes": {"0": [10.0, 10.0], "10": [110.0, 120.0]},
    }
    run = {"seed": 1, "split": "test", "steps": 5, "tasks": tasks, "returns": returns}
    file = tmp_path / "one.json"
    file.write_text(json.dumps({**run, "lived": [[9.0, 9.0]], "seconds": {}}))
    lines = table([file]).splitlines()
    assert "| all: adapted − fresh, same episodes | +5 [0, 10] | +100 [100, 100] |" in lines
    assert "| flipped: adapted − un-adapted | +0 [0, 0] | +200 [200, 200] |" in lines
    assert "| not flipped: multi-task | 300 | 300 |" in lines
    other = tmp_path / "two.json"
    other.write_text(json.dumps({**run, "steps": 6}))
    with pytest.raises(UserError, match="one split and length"):
        table([file, other])
