"""Policies in the simulated world, what they are worth exactly, and playing them.

Four are given: `random_policy`, `logging_policy` (stochastic, knows only a user's segment, so its propensities are
exact and nothing hidden confounds them), and two that see the hidden state: `myopic_policy` (highest expected
immediate reward) and `optimal_policy` (simulator_values.solve).
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.logs.simulator import RealArray, UserState, World
from recsys.logs.simulator_values import (
    class_rewards,
    mixture_value,
    myopic_rule,
    rule_value,
    solve,
    start_value,
)
from recsys.types import BoolArray, IntArray, LongArray

MOST_STEPS: Final = (
    1000  # a life that long is cut, truncated; at the default settings about one in a billion is
)


class WorldPolicy(Protocol):
    """Chooses an item for each user."""

    @property
    def name(self) -> str:
        """Return the policy as logs show it."""
        ...

    def act(self, users: UserState, generator: np.random.Generator) -> tuple[IntArray, RealArray]:
        """Return (items, their propensities), both (user,)."""
        ...

    def start_value(self, world: World, discount: float = 1.0) -> float:
        """Return the exact expected return of a new user."""
        ...


@dataclass(frozen=True)
class RulePolicy:
    """One item for each hidden state."""

    name: str
    item: IntArray  # (type, recent, trust, boredom)

    def act(self, users: UserState, generator: np.random.Generator) -> tuple[IntArray, RealArray]:
        """Return the items of the users' states, with propensity 1."""
        return self.item[users.hidden], np.ones(len(users))

    def start_value(self, world: World, discount: float = 1.0) -> float:
        """Return the exact expected return of a new user."""
        return start_value(world, rule_value(world, self.item, discount))


@dataclass(frozen=True)
class SegmentPolicy:
    """Items drawn by probabilities that depend on the user's segment alone."""

    name: str
    probability: RealArray  # (segment, item), rows sum to 1
    cumulative: RealArray  # (segment · item,), segment s rises from s to s + 1

    def act(self, users: UserState, generator: np.random.Generator) -> tuple[IntArray, RealArray]:
        """Return drawn items and their probabilities, by inversion."""
        items = self.probability.shape[1]
        drawn = np.searchsorted(self.cumulative, users.segment + generator.random(len(users)), side="right")
        first = users.segment * items
        item = np.clip(drawn - first, 0, items - 1).astype(np.int32)
        return item, self.probability[users.segment, item]

    def start_value(self, world: World, discount: float = 1.0) -> float:
        """Return the exact expected return of a new user."""
        by_segment = [
            mixture_value(world, row, discount)[:, 0, world.settings.first_trust, 0]
            for row in self.probability
        ]
        return float((world.segment_share * np.stack(by_segment, axis=1)).sum(axis=1).mean())


def segment_policy(name: str, probability: RealArray) -> SegmentPolicy:
    """Return the policy of some probabilities, (segment, item)."""
    cumulative = np.cumsum(probability, axis=1)
    cumulative /= cumulative[:, -1:]
    return SegmentPolicy(name, probability, (cumulative + np.arange(len(probability))[:, None]).ravel())


def random_policy(world: World) -> SegmentPolicy:
    """Return the policy that shows every item equally often."""
    shape = (world.settings.segments, world.settings.items)
    return segment_policy("random", np.full(shape, 1.0 / world.settings.items))


@dataclass(frozen=True)
class LoggingSettings:
    """How the logging policy chooses: π(i | g) = (1 − ε) softmax(z_g,i / temperature) + ε / items.

    z is the standardised mix (1 − w) popularity_i + w E[immediate reward of i | segment g].
    """

    temperature: float = 0.7
    segment_weight: float = 0.5  # w
    exploration: float = 0.1  # ε

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise UserError(f"temperature is {self.temperature}, must be above 0; raise it")
        for name, share in (("segment_weight", self.segment_weight), ("exploration", self.exploration)):
            if not 0.0 <= share <= 1.0:
                raise UserError(f"{name} is {share}, must lie in 0 to 1; change it")


def logging_policy(world: World, settings: LoggingSettings | None = None) -> SegmentPolicy:
    """Return the stochastic policy that logs are made by."""
    settings = settings or LoggingSettings()
    rules = world.settings
    by_type = (
        world.taste[:, world.topic]
        * world.appeal
        * (np.asarray(rules.attraction) * class_rewards(world))[world.kind]
    )  # (type, item), the immediate reward of a fresh item up to the factor of trust
    score = (1.0 - settings.segment_weight) * by_type.mean(
        axis=0
    ) + settings.segment_weight * world.type_share.T @ by_type
    spread = score.std()
    logits = (score - score.max(axis=1, keepdims=True)) / (settings.temperature * (spread or 1.0))
    chosen = np.exp(logits)
    chosen /= chosen.sum(axis=1, keepdims=True)
    name = f"logging(temperature={settings.temperature:g}, exploration={settings.exploration:g})"
    epsilon = settings.exploration
    return segment_policy(name, (1.0 - epsilon) * chosen + epsilon / rules.items)


def myopic_policy(world: World) -> RulePolicy:
    """Return the policy of highest expected immediate reward, given the hidden state."""
    return RulePolicy("myopic", myopic_rule(world))


def optimal_policy(world: World, discount: float = 1.0) -> RulePolicy:
    """Return the policy of highest expected return, given the hidden state."""
    return RulePolicy("optimal" if discount == 1.0 else f"optimal({discount:g})", solve(world, discount).item)


@dataclass(frozen=True)
class Lives:
    """What some users' whole lives came to; arrays of shape (user,)."""

    returns: RealArray  # Σ γ^t r_t
    steps: LongArray
    sessions: LongArray
    truncated: BoolArray  # cut before they were gone

    def interval(self) -> tuple[float, float]:
        """Return the mean return and the half width of its 95 % interval."""
        spread = self.returns.std(ddof=1) / np.sqrt(len(self.returns))
        return float(self.returns.mean()), float(1.96 * spread)


class Tally:
    """Adds up the returns of users who leave one by one."""

    def __init__(self, users: int, discount: float) -> None:
        self._discount = discount
        self._returns = np.zeros(users)
        self._steps = np.zeros(users, np.int64)
        self._sessions = np.zeros(users, np.int64)

    def add(self, rows: npt.NDArray[np.integer], reward: RealArray, session_ended: BoolArray) -> None:
        """Count one step of the users at `rows`."""
        self._returns[rows] += self._discount ** self._steps[rows] * reward
        self._steps[rows] += 1
        self._sessions[rows] += session_ended

    def lives(self, truncated: BoolArray) -> Lives:
        """Return what was counted; a session that was cut counts too."""
        return Lives(self._returns, self._steps, self._sessions + truncated, truncated)


def run_policy(
    world: World,
    policy: WorldPolicy,
    users: int,
    generator: np.random.Generator,
    discount: float = 1.0,
    max_steps: int = MOST_STEPS,
) -> Lives:
    """Play a policy for some new users, each until gone or after `max_steps`."""
    present = world.begin(users, generator)
    rows = np.arange(users)
    tally = Tally(users, discount)
    for _ in range(max_steps):
        if len(rows) == 0:
            break
        item, _ = policy.act(present, generator)
        outcome = world.step(present, item, generator)
        tally.add(rows, outcome.reward, outcome.session_ended)
        rows = rows[~outcome.terminated]
        present = outcome.users.at(~outcome.terminated)
    truncated = np.zeros(users, np.bool_)
    truncated[rows] = True
    return tally.lives(truncated)
