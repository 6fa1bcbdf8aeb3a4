"""A family of CartPoles: does a meta-trained Q adapt to unseen ones within a few episodes?

    python -m pipelines.experiments.cartpole_family --seed 1 --out FILE
    python -m pipelines.experiments.cartpole_family --table FILE [FILE ...]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from pipelines.experiments.cartpole import ours
from pipelines.experiments.cartpole_meta import MetaLearner, MetaSettings
from pipelines.experiments.cartpole_presets import PRESETS, Preset
from pipelines.experiments.cartpole_replay import TaskReplay
from pipelines.experiments.cartpole_tasks import LIMIT, Players, Task, draw_tasks, refuse_seen
from recsys.mdp.transition import TransitionBatch
from recsys.randomness import derive_seed, numpy_generator
from recsys.types import BoolArray, FloatArray, LongArray

META = replace(PRESETS["quick"], hidden=(64, 64), batch_size=256, n_step=3, first_update=200, buffer=20_000)


class Agent(Protocol):
    width: int

    def fast(self, rows: TransitionBatch, present: BoolArray) -> torch.Tensor: ...

    def q_all(self, state: torch.Tensor, fast: torch.Tensor) -> torch.Tensor: ...


def act(agent: Agent, state: np.ndarray, fast: torch.Tensor) -> LongArray:
    return agent.q_all(torch.from_numpy(state), fast).argmax(dim=1).numpy()


def explored(greedy: LongArray, epsilon: float, chance: np.random.Generator) -> LongArray:
    return np.where(chance.random(len(greedy)) < epsilon, chance.integers(0, 2, len(greedy)), greedy)


def metatrain(learner, tasks, steps, seed, life=6, log=None, on_check=None, check=0):
    players = Players(tasks, derive_seed(seed, "family-training") % 2**31)
    preset = learner.preset
    replay = TaskReplay(len(tasks), preset.buffer, preset)
    chance = numpy_generator(seed, "family-exploration")
    everyone = np.arange(len(tasks))
    episodes = np.zeros(len(tasks), int)
    for task in everyone:
        replay.begin_life(task)
    fast = learner.fast(*replay.supports(everyone, learner.width, chance))
    recent = []
    for t in range(steps):
        epsilon = max(preset.final_epsilon, 1.0 - t / (preset.exploration * steps))
        ended = players.step(explored(act(learner, players.state, fast), epsilon, chance))
        for episode in ended:
            replay.add(episode.place, episode)
            episodes[episode.place] += 1
            recent.append((t, episodes[episode.place], len(episode.actions)))
            if episodes[episode.place] == life:
                episodes[episode.place] = 0
                replay.begin_life(episode.place)
        if t % 25 == 0:
            fast = learner.fast(*replay.supports(everyone, learner.width, chance))
        elif ended:
            who = np.array([e.place for e in ended])
            fast[who] = learner.fast(*replay.supports(who, learner.width, chance))
        if t >= preset.first_update and t % preset.steps_per_update == 0:
            figures = learner.update(replay)
        if check and t % check == check - 1:
            r = np.array(recent)
            first = r[r[:, 1] == 1][:, 2]
            later = r[r[:, 1] >= 3][:, 2] if len(r) else []
            print(t + 1, "eps %.2f" % epsilon, "first", first.mean().round(1) if len(first) else None, "later", np.mean(later).round(1), {k: round(v, 3) for k, v in figures.items()},
                "noise %.3f gain %.2f off %.2f mix %.2f growth %.2f" % (learner.network.prior.log_noise.exp(), learner.network.prior.gain, learner.network.prior.offset, learner.network.prior.mix_logit.sigmoid(), learner.network.prior.growth), flush=True)
            recent = []
            if on_check: on_check()


def greedy_returns(agent: Agent, tasks: Sequence[Task], fast: torch.Tensor, starts: int, seed: int) -> FloatArray:
    """Return the mean return of greedy episodes of each task, (task,)."""
    repeated = [task for task in tasks for _ in range(starts)]
    players = Players(repeated, seed)
    fast = fast.repeat_interleave(starts, dim=0)
    returns = np.zeros(len(repeated))
    for _ in range(LIMIT):
        for episode in players.step(act(agent, players.state, fast)):
            if not returns[episode.place]:
                returns[episode.place] = len(episode.actions)
        if returns.all():
            break
    return returns.reshape(len(tasks), starts).mean(axis=1)


def adaptation_curve(agent, tasks, preset, seed, at=(0, 1, 2, 3, 5, 10), starts=10, epsilon=0.1):
    players = Players(tasks, derive_seed(seed, "family-adapting") % 2**31)
    replay = TaskReplay(len(tasks), (max(at) + 1) * LIMIT, preset)
    chance = numpy_generator(seed, "family-adapting")
    everyone = np.arange(len(tasks))
    for t in everyone:
        replay.begin_life(t)
    curve, told, episodes = {}, {}, []
    for k in range(max(at) + 1):
        fast = agent.fast(*replay.supports(everyone, agent.width, chance))
        if k in at:
            curve[k] = greedy_returns(agent, tasks, fast, starts, derive_seed(seed, f"family-greedy-{k}") % 2**31)
        if k == max(at):
            break
        waiting = np.ones(len(tasks), bool)
        round_ = [None] * len(tasks)
        players = Players(tasks, derive_seed(seed, f"family-adapting-{k}") % 2**31)
        while waiting.any():
            for e in players.step(explored(act(agent, players.state, fast), epsilon, chance)):
                if waiting[e.place]:
                    waiting[e.place] = False
                    replay.add(e.place, e)
                    round_[e.place] = e
        episodes.append(round_)
        told[k] = np.array([len(e.actions) for e in round_])
    return curve, told, episodes


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    kw = eval(sys.argv[1]) if len(sys.argv) > 1 else {}
    steps = kw.pop("steps", 12000)
    seed = kw.pop("seed", 0)
    check = kw.pop("check", 2000)
    ntr = kw.pop("ntrain", 32)
    sk = {k: kw.pop(k) for k in list(kw) if k in MetaSettings.__dataclass_fields__}
    preset = replace(META, **kw)
    train = draw_tasks(ntr, numpy_generator(seed, "family-train"))
    val = draw_tasks(20, numpy_generator(seed, "family-validation"))
    learner = MetaLearner(preset, MetaSettings(**sk), (steps - preset.first_update) // preset.steps_per_update, seed)
    t0 = time.process_time()

    def show():
        curve, told, _ = adaptation_curve(learner, val, preset, seed, starts=3, at=(0, 1, 3, 5))
        f = np.array([t.flipped for t in val])
        print("   %.0fs" % (time.process_time() - t0), {k: (v.mean().round(0), v[f].mean().round(0)) for k, v in curve.items()}, flush=True)

    metatrain(learner, train, steps, seed, check=check, on_check=show)
