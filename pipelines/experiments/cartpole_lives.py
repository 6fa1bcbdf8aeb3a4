"""Agents that live through CartPoles: meta-training on many at once, adapting to unseen ones, and greedy play.

All agents act by Q(s, a; w) with one w per task; an agent that cannot adapt ignores w, and then sees and does the rest
like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from pipelines.experiments.cartpole import learner_of
from pipelines.experiments.cartpole_presets import Preset
from pipelines.experiments.cartpole_replay import TaskReplay
from pipelines.experiments.cartpole_tasks import LIMIT, Episode, Players, Task
from recsys.mdp.transition import TransitionBatch
from recsys.models.vector_network import VectorNetwork
from recsys.randomness import derive_seed, numpy_generator
from recsys.types import BoolArray, FloatArray, LongArray

LIFE = 6  # episodes of a training task from one blank slate to the next
EXPLORED = 0.1  # share of random actions while adapting
REFRESH = 25  # steps after which fast weights follow a network that has learnt meanwhile


class Agent(Protocol):
    """Acts in many tasks at once."""

    @property
    def width(self) -> int:
        """How many transitions it adapts to at most."""
        ...

    def fast(self, rows: TransitionBatch, present: BoolArray) -> torch.Tensor:
        """Return w of tasks, (task, feature), from supports: rows, (task · width,), present, (task, width)."""
        ...

    def q_all(self, state: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        """Return Q of every action, (batch, action), given one w per state, (batch, feature)."""
        ...


class Learner(Agent, Protocol):
    """An agent that also learns across tasks."""

    @property
    def preset(self) -> Preset:
        """How it learns."""
        ...

    def update(self, replay: TaskReplay) -> object:
        """Take one step."""
        ...


class PlainAgent:
    """Q of the state alone."""

    width = 1

    def __init__(self, network: VectorNetwork) -> None:
        self.network = network

    def fast(self, rows: TransitionBatch, present: BoolArray) -> torch.Tensor:
        """Return no weights."""
        return torch.zeros((len(present), 0))

    @torch.no_grad()
    def q_all(self, state: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        """Return Q of every action, (batch, action)."""
        return self.network.q_all(self.network(state))


class MultiTaskLearner(PlainAgent):
    """One DQN for all tasks, on as many transitions of as many tasks per update as the meta learner's queries."""

    def __init__(self, preset: Preset, tasks: int, updates: int, seed: int) -> None:
        self.preset, self.tasks = preset, tasks
        self.learn, network = learner_of(preset, updates, seed)
        super().__init__(network)
        self.chance = numpy_generator(seed, "family-replay")

    def update(self, replay: TaskReplay) -> None:
        """Take one step on transitions of some tasks."""
        task = self.chance.choice(np.flatnonzero(replay.total > 0), self.tasks)
        self.learn(replay.queries(task, self.preset.batch_size // self.tasks, self.chance))


def act(agent: Agent, state: np.ndarray, fast: torch.Tensor) -> LongArray:
    """Return the greedy actions, (task,)."""
    return np.asarray(agent.q_all(torch.from_numpy(state), fast).argmax(dim=1).numpy(), np.int64)


def explored(greedy: LongArray, epsilon: float, chance: np.random.Generator) -> LongArray:
    """Return actions of which a share is drawn at random."""
    random = chance.random(len(greedy)) < epsilon
    return np.where(random, chance.integers(0, 2, len(greedy)), greedy)


def learn_family(
    learner: Learner,
    tasks: Sequence[Task],
    steps: int,
    seed: int,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Play all training tasks at once for some steps each, life after life, and learn meanwhile.

    `watch` is told the number of steps after every tenth of them.
    """
    preset = learner.preset
    players = Players(tasks, derive_seed(seed, "family-training") % 2**31)
    replay = TaskReplay(len(tasks), preset.buffer, preset)
    chance = numpy_generator(seed, "family-exploration")
    everyone = np.arange(len(tasks))
    lived = np.zeros(len(tasks), np.int64)
    for task in everyone:
        replay.begin_life(int(task))
    fast = learner.fast(*replay.supports(everyone, learner.width, chance))
    for taken in range(1, steps + 1):
        epsilon = max(preset.final_epsilon, 1.0 - taken / (preset.exploration * steps))
        ended = players.step(explored(act(learner, players.state, fast), epsilon, chance))
        for episode in ended:
            replay.add(episode.place, episode)
            lived[episode.place] = (lived[episode.place] + 1) % LIFE
            if lived[episode.place] == 0:
                replay.begin_life(episode.place)
        if taken % REFRESH == 0:
            fast = learner.fast(*replay.supports(everyone, learner.width, chance))
        elif ended:
            where = np.array([episode.place for episode in ended])
            fast[where] = learner.fast(*replay.supports(where, learner.width, chance))
        if taken > preset.first_update and taken % preset.steps_per_update == 0:
            learner.update(replay)
        if watch is not None and taken % max(1, steps // 10) == 0:
            watch(taken)


def greedy_returns(
    agent: Agent, tasks: Sequence[Task], fast: torch.Tensor, starts: int, seed: int
) -> FloatArray:
    """Return the mean return of greedy episodes of each task, (task,); the starts depend on the seed alone."""
    repeated = [task for task in tasks for _ in range(starts)]
    players = Players(repeated, derive_seed(seed, "family-greedy") % 2**31)
    fast = fast.repeat_interleave(starts, dim=0)
    returns = np.zeros(len(repeated))
    for _ in range(LIMIT):  # by then every first episode is over
        for episode in players.step(act(agent, players.state, fast)):
            if returns[episode.place] == 0:
                returns[episode.place] = len(episode.actions)
        if returns.all():
            break
    return returns.reshape(len(tasks), starts).mean(axis=1)


@dataclass(frozen=True)
class Adapted:
    """What an agent with a frozen network did in unseen tasks."""

    returns: dict[int, FloatArray]  # after so many episodes, greedy, (task,)
    lived: FloatArray  # return of each episode that it adapted to, exploration included, (episode, task)
    episodes: list[list[Episode]]  # those episodes, by task
    fast: torch.Tensor  # w after all of them, (task, feature)


def adapt_to_family(
    agent: Agent,
    tasks: Sequence[Task],
    preset: Preset,
    seed: int,
    at: Sequence[int],
    starts: int,
) -> Adapted:
    """Live through as many episodes as the last of `at`, adapting after each to what came first.

    First, not all: transitions of a balanced pole that come later do harm (docs/experiments.md)."""
    replay = TaskReplay(len(tasks), max(at) * LIMIT, preset)
    chance = numpy_generator(seed, "family-adapting")
    everyone = np.arange(len(tasks))
    for task in everyone:
        replay.begin_life(int(task))
    returns: dict[int, FloatArray] = {}
    episodes: list[list[Episode]] = [[] for _ in tasks]
    fast = agent.fast(*replay.first(everyone, agent.width, chance))
    for lived in range(max(at) + 1):
        if lived in at:
            returns[lived] = greedy_returns(agent, tasks, fast, starts, seed)
        if lived == max(at):
            break
        players = Players(tasks, derive_seed(seed, f"family-episode-{lived}") % 2**31)
        while min(map(len, episodes)) == lived:
            for episode in players.step(explored(act(agent, players.state, fast), EXPLORED, chance)):
                if len(episodes[episode.place]) == lived:
                    replay.add(episode.place, episode)
                    episodes[episode.place].append(episode)
        fast = agent.fast(*replay.first(everyone, agent.width, chance))
    lengths = np.array([[len(episode.actions) for episode in each] for each in episodes], np.float64)
    return Adapted(returns, lengths.T, episodes, fast)


def one_episode(agent: PlainAgent, task: Task, seed: int, chance: np.random.Generator) -> Episode:
    """Return an episode of a single task, with as much exploration as `adapt_to_family` has."""
    players = Players([task], seed)
    while True:
        greedy = act(agent, players.state, torch.zeros((1, 0)))
        if ended := players.step(explored(greedy, EXPLORED, chance)):
            return ended[0]
