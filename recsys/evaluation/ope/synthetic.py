"""Bandits with a known value, made to a wanted overlap: what coverage is measured on."""

from dataclasses import dataclass

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.ope.rounds import Rounds
from recsys.types import LongArray, RealArray


@dataclass(frozen=True)
class SyntheticBandit:
    """Contexts of a few equally likely kinds; tables of shape (kind, action)."""

    mean: RealArray  # of the reward
    behaviour: RealArray
    evaluation: RealArray
    model: RealArray | None = None  # a reward model with errors of its own
    noise: float = 0.0  # standard deviation of rewards; 0: they are 0 or 1
    per_cluster: int = 1  # rounds of one user
    mood: float = 0.0  # standard deviation of what a user adds to every reward of theirs

    @property
    def truth(self) -> float:
        """Value of the evaluated policy."""
        return float((self.evaluation * self.mean).sum(axis=1).mean())

    @property
    def logged_truth(self) -> float:
        """Value of the policy that logs."""
        return float((self.behaviour * self.mean).sum(axis=1).mean())

    @property
    def overlap(self) -> float:
        """Effective share of a log, 1 / E[w²], were it endless."""
        shown = self.behaviour > 0
        squares = np.zeros_like(self.behaviour)
        squares[shown] = self.evaluation[shown] ** 2 / self.behaviour[shown]
        return float(1.0 / squares.sum(axis=1).mean())

    @property
    def max_weight(self) -> float:
        """Largest weight there can be."""
        shown = self.behaviour > 0
        return float((self.evaluation[shown] / self.behaviour[shown]).max())

    def log(self, rounds: int, generator: np.random.Generator, *, known_weight: bool = True) -> Rounds:
        """Return a log of the behaviour policy."""
        kind = generator.integers(len(self.mean), size=rounds)
        action = self._drawn(kind, generator)
        mean = self.mean[kind, action]
        cluster: LongArray | None = None
        if self.per_cluster > 1:
            cluster = (np.arange(rounds) // self.per_cluster).astype(np.int64)
            mean = mean + generator.normal(0.0, self.mood, int(cluster[-1]) + 1)[cluster]
        reward = (
            mean + self.noise * generator.normal(size=rounds)
            if self.noise
            else (generator.random(rounds) < mean).astype(np.float64)
        )
        return Rounds(
            reward,
            self.behaviour[kind, action],
            self.evaluation[kind, action],
            None if self.model is None else self.model[kind, action],
            None if self.model is None else (self.evaluation * self.model).sum(axis=1)[kind],
            cluster,
            self.max_weight if known_weight else np.inf,
        )

    def _drawn(self, kind: LongArray, generator: np.random.Generator) -> LongArray:
        cumulative = np.cumsum(self.behaviour, axis=1)
        cumulative /= cumulative[:, -1:]
        flat = (cumulative + np.arange(len(cumulative))[:, None]).ravel()
        place = np.searchsorted(flat, kind + generator.random(len(kind)), side="right")
        action: LongArray = np.clip(place - kind * self.mean.shape[1], 0, self.mean.shape[1] - 1)
        return action


def synthetic_bandit(
    overlap: float,
    actions: int = 20,
    kinds: int = 5,
    rate: float = 0.05,
    seed: int = 0,
    *,
    noise: float = 0.0,
    deterministic: bool = False,
    unsupported: float = 0.0,
    per_cluster: int = 1,
    mood: float = 0.0,
    sharp: float = 0.5,
) -> SyntheticBandit:
    """Return a bandit whose overlap is as wanted, found by bisection over how far the policies are apart.

    With `deterministic` the policy shows one action in each context and the overlap follows from the logging policy.
    `sharp` is the spread of the logging policy's logits: an even one never overlaps badly with few actions.
    `unsupported` is the share of actions that the log never shows; the evaluated policy favours them.
    """
    if not 0.0 < overlap <= 1.0:
        raise UserError(f"overlap is {overlap}, must lie in above 0 to 1; give the effective share of a log")
    generator = np.random.default_rng(seed)
    logits, other = generator.normal(size=(2, kinds, actions))
    mean = rate * generator.uniform(0.4, 1.6, (kinds, actions))
    model = mean + 0.5 * rate * generator.normal(size=mean.shape)
    behaviour = softmax(sharp * logits)
    hidden = np.arange(actions) < round(unsupported * actions)
    if hidden.any():
        behaviour[:, hidden] = 0.0
        behaviour /= behaviour.sum(axis=1, keepdims=True)
        other[:, hidden] += 1.0

    def made(apart: float) -> SyntheticBandit:
        policy = softmax(sharp * logits + apart * other)
        if deterministic:
            policy = np.eye(actions)[other.argmax(axis=1)]
        return SyntheticBandit(mean, behaviour, policy, model, noise, per_cluster, mood)

    if deterministic or hidden.any():
        return made(1.0)
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if made(middle).overlap > overlap else (low, middle)
    return made((low + high) / 2.0)


def softmax(scores: RealArray) -> RealArray:
    """Return exp(scores) with rows that sum to 1, (row, action)."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
