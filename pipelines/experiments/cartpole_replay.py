"""Replay of several tasks: a block of rows per task, and which rows a life began with.

A life is a run of episodes of one task from a blank slate on. Its first transitions are what an agent that meets the
task has to adapt to, so supports are drawn from beginnings of lives, queries from anywhere in the task.
"""

from dataclasses import replace

import numpy as np

from pipelines.experiments.cartpole import FEATURES, store_episode
from pipelines.experiments.cartpole_presets import Preset
from pipelines.experiments.cartpole_tasks import Episode
from recsys.mdp.replay_buffer import gather
from recsys.mdp.transition import TransitionBatch
from recsys.mdp.transition_store import RingStore, vector_schema
from recsys.types import BoolArray, LongArray

LIVES = 64  # of a task that can be begun again


class TaskReplay:
    """The newest transitions of each task, n-step ones for queries and one-step ones for supports."""

    def __init__(self, tasks: int, capacity: int, preset: Preset) -> None:
        self.capacity = capacity
        self.rules = (preset, replace(preset, n_step=1))
        self.blocks = [_blocks(tasks, capacity) for _ in self.rules]
        self.total = np.zeros(tasks, np.int64)  # transitions ever seen
        self.lives = np.zeros((tasks, LIVES), np.int64)  # lives by number, modulo LIVES
        self.start = np.zeros((tasks, LIVES), np.int64)  # of each life, counted as `total` is
        self.length = np.zeros((tasks, LIVES), np.int64)
        self.life = np.full(tasks, -1, np.int64)

    def begin_life(self, task: int) -> None:
        """Let the next episode of a task be the first of a life."""
        self.life[task] += 1
        place = self.life[task] % LIVES
        self.start[task, place], self.length[task, place] = self.total[task], 0

    def add(self, task: int, episode: Episode) -> None:
        """Store an episode as the next one of the task's life."""
        states, actions = list(episode.states), list(episode.actions)
        for (stores, _), rule in zip(self.blocks, self.rules, strict=True):
            store_episode(stores[task], states, actions, episode.rewards, episode.ended, rule)
        self.total[task] += len(actions)
        self.length[task, self.life[task] % LIVES] += len(actions)

    def queries(self, task: LongArray, count: int, chance: np.random.Generator) -> TransitionBatch:
        """Draw transitions of some tasks, (task · count,), task by task, with replacement."""
        held = np.minimum(self.total, self.capacity)[task, None]
        place = task[:, None] * self.capacity + (chance.random((len(task), count)) * held).astype(np.int64)
        return gather(self.blocks[0][1], place.ravel(), np.ones(place.size, np.float32))

    def beginnings(
        self, task: LongArray, width: int, longest: int, chance: np.random.Generator
    ) -> tuple[TransitionBatch, BoolArray]:
        """Draw beginnings of lives, of log-uniform length up to `longest`, none in one of ten; see `supports`."""
        whole = (self.length[task] > 0) & (self.start[task] >= self.total[task, None] - self.capacity)
        life = np.where(whole, chance.random(whole.shape), -1.0).argmax(axis=1)
        known = np.where(whole[np.arange(len(task)), life], self.length[task, life], 0)
        drawn = np.exp(chance.random(len(task)) * np.log(longest)).astype(np.int64)
        drawn[chance.random(len(task)) < 0.1] = 0
        return self._rows(task, self.start[task, life], np.minimum(drawn, known), width, chance)

    def supports(
        self, task: LongArray, width: int, chance: np.random.Generator
    ) -> tuple[TransitionBatch, BoolArray]:
        """Return what the lives that run now have seen: rows, (task · width,), and which are there, (task, width).

        Of a life longer than `width` as many transitions are drawn, in their order.
        """
        place = self.life[task] % LIVES
        return self._rows(task, self.start[task, place], self.length[task, place], width, chance)

    def first(
        self, task: LongArray, width: int, chance: np.random.Generator
    ) -> tuple[TransitionBatch, BoolArray]:
        """Return the first transitions of the lives that run now, in the form of `supports`."""
        place = self.life[task] % LIVES
        known = np.minimum(self.length[task, place], width)
        return self._rows(task, self.start[task, place], known, width, chance)

    def _rows(
        self, task: LongArray, start: LongArray, known: LongArray, width: int, chance: np.random.Generator
    ) -> tuple[TransitionBatch, BoolArray]:
        every = np.broadcast_to(np.arange(width), (len(task), width))
        drawn = np.sort(chance.random((len(task), width)), axis=1) * known[:, None]
        event = np.where(known[:, None] > width, drawn.astype(np.int64), every)
        place = task[:, None] * self.capacity + (start[:, None] + event) % self.capacity
        rows = gather(self.blocks[1][1], place.ravel(), np.ones(place.size, np.float32))
        return rows, every < known[:, None]


def _blocks(tasks: int, capacity: int) -> tuple[list[RingStore], dict[str, np.ndarray]]:
    """Return a ring per task, and the columns that they are consecutive blocks of."""
    whole = RingStore(tasks * capacity, vector_schema(FEATURES)).columns
    stores = [RingStore(capacity, vector_schema(FEATURES)) for _ in range(tasks)]
    for task, store in enumerate(stores):
        store.columns = {name: held[task * capacity : (task + 1) * capacity] for name, held in whole.items()}
    return stores, whole
