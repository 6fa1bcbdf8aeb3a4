"""A family of CartPoles: pole length, gravity and force differ, and in half of them the force's sign is flipped.

A task is CartPole-v1 with other constants. With the sign flipped the same action pushes the other way, so no policy
that looks at the state alone balances the whole family. Many tasks step together in Gymnasium's own vector
environment, whose constants are set to one number per task.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.experiments.cartpole import new_environment
from recsys.errors import UserError
from recsys.types import BoolArray, FloatArray, LongArray

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

LIMIT = 500  # steps of an episode
LENGTH, GRAVITY, FORCE = (0.25, 1.0), (5.0, 15.0), (6.0, 14.0)  # CartPole-v1: 0.5, 9.8, 10


@dataclass(frozen=True)
class Task:
    """Constants of one CartPole."""

    length: float  # half the pole's, m
    gravity: float  # m / s²
    force: float  # N; below zero the actions have changed places

    @property
    def flipped(self) -> bool:
        """Whether action 1 pushes to the left."""
        return self.force < 0


@dataclass(frozen=True)
class Episode:
    """What one environment of a batch has been through."""

    place: int  # of the environment
    states: FloatArray  # (step + 1, feature)
    actions: LongArray  # (step,)
    ended: bool  # the pole fell; else the limit cut the episode

    @property
    def rewards(self) -> list[float]:
        """One for each step."""
        return [1.0] * len(self.actions)


def draw_tasks(count: int, generator: np.random.Generator) -> list[Task]:
    """Return tasks with constants drawn uniformly; every second one is flipped."""
    length, gravity, force = (generator.uniform(*bounds, count) for bounds in (LENGTH, GRAVITY, FORCE))
    sign = np.where(np.arange(count) % 2, -1.0, 1.0)
    return [Task(float(a), float(b), float(c)) for a, b, c in zip(length, gravity, force * sign, strict=True)]


def refuse_seen(unseen: Sequence[Task], training: Sequence[Task]) -> None:
    """Raise UserError if an unseen task shares any constant with a training task."""
    for name in ("length", "gravity", "force"):
        known = {abs(asdict(task)[name]) for task in training}
        for task in unseen:
            if abs(asdict(task)[name]) in known:
                raise UserError(
                    f"{name} {asdict(task)[name]} of an unseen task is a training task's, must be new; draw it with "
                    "another seed"
                )


def single_environment(task: Task) -> "gymnasium.Env[np.ndarray, int]":
    """Return CartPole-v1 with the constants of a task."""
    environment = new_environment()
    core = environment.unwrapped
    core.length, core.gravity, core.force_mag = task.length, task.gravity, task.force  # type: ignore[attr-defined]
    core.polemass_length = core.masspole * task.length  # type: ignore[attr-defined]
    return environment


def vector_environment(tasks: Sequence[Task]) -> "CartPoleVectorEnv":
    """Return one environment per task that step together; each is reset by the step after its end."""
    new_environment()  # says what to install where Gymnasium is missing
    from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

    environment = CartPoleVectorEnv(len(tasks), LIMIT)
    constants = np.array([(task.length, task.gravity, task.force) for task in tasks])
    # its step is made of array operations, which take one constant per environment as well as one for all
    environment.length, environment.gravity, environment.force_mag = constants.T
    environment.polemass_length = environment.masspole * environment.length
    return environment


class Players:
    """Environments of tasks that play episode after episode and keep the one that runs."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        self.environment = vector_environment(tasks)
        count = len(tasks)
        self.state, _ = self.environment.reset(seed=seed)  # (task, feature)
        self.states = np.zeros((count, LIMIT + 1, self.state.shape[1]), np.float32)
        self.states[:, 0] = self.state
        self.actions = np.zeros((count, LIMIT), np.int64)
        self.length = np.zeros(count, np.int64)
        self.resetting: BoolArray = np.zeros(count, bool)  # the next step only puts the pole up again
        self._places = np.arange(count)

    def step(self, action: LongArray) -> list[Episode]:
        """Act in every environment, (task,); return the episodes that this step ended."""
        acting = np.flatnonzero(~self.resetting)
        self.actions[acting, self.length[acting]] = action[acting]
        self.state, _, ended, cut, _ = self.environment.step(action)
        self.length[acting] += 1
        self.length[self.resetting] = 0
        self.states[self._places, self.length] = self.state
        self.resetting = ended | cut
        return [self._episode(int(place), bool(ended[place])) for place in np.flatnonzero(self.resetting)]

    def _episode(self, place: int, ended: bool) -> Episode:
        length = self.length[place]
        return Episode(
            place, self.states[place, : length + 1].copy(), self.actions[place, :length].copy(), ended
        )
