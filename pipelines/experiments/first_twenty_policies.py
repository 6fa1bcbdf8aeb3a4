"""Recommenders of the first twenty interactions, all from the same log: bandits, fold-in, sequence state, fast weights.

Each chooses one item for each present user from what was shown and answered so far (`StateBatch`), many users at once.
All that read features read the same: a one and the items' content.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from pipelines.experiments.first_twenty_base import Shown, StateValues, learn_values
from pipelines.experiments.first_twenty_prior import Tastes
from recsys.logs.interactions import interaction_matrix
from recsys.logs.prepared import PreparedLog, training_histories
from recsys.mdp.state import StateBatch
from recsys.models.q_network import QNetwork
from recsys.policies.als import Als, AlsOptions, solve_rows
from recsys.types import FloatArray, LongArray

Act = Callable[[StateBatch], torch.Tensor]  # states -> items, (user,)


def features_of(log: PreparedLog) -> torch.Tensor:
    """Return [1, content] of every item, (item, feature)."""
    content = torch.from_numpy(np.array(log.content, np.float32))
    return torch.cat([torch.ones(len(content), 1), content], dim=1)


def ridge(
    features: torch.Tensor, item: torch.Tensor, said: torch.Tensor, strength: float = 1.0
) -> torch.Tensor:
    """Return the least-squares weights of what was said of items, (feature,)."""
    read = features[item]
    gram = read.T @ read + strength * torch.eye(features.shape[1])
    return torch.linalg.solve(gram, read.T @ said)


def item_values(log: PreparedLog, discount: float, shrink: float = 100.0) -> torch.Tensor:
    """Return Q_θ(i) without a user, (item,): what its content says of the reward and of what follows, and its own mean.

    The regression on the discounted return after the item makes an item that drives users away pay for it.
    """
    item, reward = torch.from_numpy(np.array(log.item)).long(), torch.from_numpy(np.array(log.reward))
    later = torch.from_numpy(what_follows(np.array(log.reward), np.array(log.history_offsets), discount))
    features = features_of(log)
    now = features @ ridge(features, item, reward)
    beyond = torch.bincount(item, weights=reward - now[item], minlength=len(features))
    count = torch.bincount(item, minlength=len(features))
    return now + beyond / (count + shrink) + features @ ridge(features, item, later)


def what_follows(reward: FloatArray, offsets: LongArray, discount: float) -> FloatArray:
    """Return Σ_{j ≥ 1} γ^j r_{t+j} of every event within its life, (event,)."""
    later, total = np.zeros(len(reward), np.float32), np.zeros(len(offsets) - 1, np.float32)
    start, length = offsets[:-1], np.diff(offsets)
    for back in range(1, int(length.max()) + 1):  # all lives at once, from their ends
        rows = np.flatnonzero(length >= back)
        event = start[rows] + length[rows] - back
        later[event] = discount * total[rows]
        total[rows] = reward[event] + discount * total[rows]
    return later


@dataclass(frozen=True)
class Start:
    """What adaptive policies start from: Q_θ(s, i) of the log, and the log's events that a prior is learnt from."""

    log: PreparedLog
    values: StateValues
    shown: Shown
    fresh: FloatArray  # f of each event

    @staticmethod
    def of(log: PreparedLog) -> "Start":
        """Return what the log says of items and states."""
        return Start(log, *learn_values(log))

    def later(self, discount: float) -> torch.Tensor:
        """Return what follows an item, (item,): it makes one that drives users away pay for it."""
        return item_values(self.log, discount) - item_values(self.log, 0.0)


def unadapted(start: Start, discount: float) -> Act:
    """Return argmax Q_θ(s, i): the state knows what was just shown, and nothing of the user but the segment."""
    values, later = start.values, start.later(discount)
    return lambda states: (values.fresh_now(states) * values.chance_of(states) * values.worth + later).argmax(
        dim=1
    )


def adapted(start: Start, tastes: Tastes, discount: float, alpha: float) -> Act:
    """Return argmax f v (b + w_uᵀE + α √(Eᵀ Σ E)) + later, w_u from the inner loop."""
    values, later = start.values, start.later(discount)

    @torch.no_grad()
    def act(states: StateBatch) -> torch.Tensor:
        fast = tastes.adapt(values, states)
        liked = values.chance_of(states) + fast.shift(tastes.vectors) + alpha * tastes.variance(fast).sqrt()
        return (values.fresh_now(states) * values.worth * liked + later).argmax(dim=1)

    return act


@dataclass(frozen=True)
class LinearBandit:
    """LinUCB (Li et al. 2010, algorithm 1) or linear Thompson sampling over item features, one model a user.

    Everything is as in `adapted` (the same Q_θ(s, i), the same evidence) but for what is learnt of users beforehand:
    x_i are content features and θ ~ N(0, τI), τ tuned. Shows argmax f v (b + x_iᵀθ̂ + α √(x_iᵀ A⁻¹ x_i)) + later, or
    draws θ with α times the posterior's spread.
    """

    start: Start
    features: torch.Tensor
    later: torch.Tensor
    noise: float  # variance of answers around Q_θ in the log
    prior_variance: float  # τ
    alpha: float
    sampler: torch.Generator | None = None  # none = LinUCB

    @staticmethod
    def of(
        start: Start,
        discount: float,
        prior_variance: float,
        alpha: float,
        sampler: torch.Generator | None = None,
    ) -> "LinearBandit":
        """Return the bandit with what the log says of items."""
        shown = start.shown
        expected = start.fresh * start.values.chance.numpy()[shown.segment, shown.item]
        noise = float((shown.answered - expected).var())
        features = features_of(start.log)
        return LinearBandit(start, features, start.later(discount), noise, prior_variance, alpha, sampler)

    @torch.no_grad()
    def __call__(self, states: StateBatch) -> torch.Tensor:
        """Return the items to show, (user,)."""
        values = self.start.values
        fresh = values.fresh_then(states)
        read = self.features[states.item.clamp(min=0)] * (fresh * states.present)[..., None]
        eye, noise = torch.eye(self.features.shape[1]), self.noise
        covariance = torch.linalg.inv(eye / self.prior_variance + read.transpose(1, 2) @ read / noise)
        told = (read * values.surprise(states, fresh)[..., None]).sum(1)
        mean = (covariance @ told[..., None])[..., 0] / noise
        bonus = torch.zeros(())
        if self.sampler is None:
            variance = ((self.features @ covariance) * self.features).sum(-1)
            bonus = self.alpha * variance.clamp(min=0).sqrt()
        else:
            draw = torch.randn(mean.shape, generator=self.sampler)
            mean = mean + self.alpha * (torch.linalg.cholesky(covariance) @ draw[..., None])[..., 0]
        liked = values.chance_of(states) + mean @ self.features.T + bonus
        return (values.fresh_now(states) * values.worth * liked + self.later).argmax(dim=1)


@dataclass(frozen=True)
class RewardBandit:
    """The same bandits as they stand in the paper: an item has one value, and rewards themselves are the evidence.

    Rewards beyond the item's mean are xᵀθ with θ ~ N(0, τI) and the log's noise; shows the item with the highest
    Q(i) + x_iᵀθ̂ + α √(x_iᵀ A⁻¹ x_i), or draws θ with α times the posterior's spread. Q(i) is item_values.
    """

    features: torch.Tensor
    values: torch.Tensor  # Q_θ(i)
    expected: torch.Tensor  # the item's mean reward
    noise: float
    prior_variance: float  # τ
    alpha: float
    sampler: torch.Generator | None = None  # none = LinUCB

    @staticmethod
    def of(
        log: PreparedLog,
        discount: float,
        prior_variance: float,
        alpha: float,
        sampler: torch.Generator | None = None,
    ) -> "RewardBandit":
        """Return the bandit with what the log says of items."""
        item, reward = torch.from_numpy(np.array(log.item)).long(), torch.from_numpy(np.array(log.reward))
        expected = item_values(log, 0.0)
        noise = float((reward - expected[item]).var())
        values = item_values(log, discount)
        return RewardBandit(features_of(log), values, expected, noise, prior_variance, alpha, sampler)

    def __call__(self, states: StateBatch) -> torch.Tensor:
        """Return the items to show, (user,)."""
        item = states.item.clamp(min=0)
        read = self.features[item] * states.present[..., None]
        beyond = states.reward - self.expected[item]
        eye = torch.eye(self.features.shape[1])
        covariance = torch.linalg.inv(eye / self.prior_variance + read.transpose(1, 2) @ read / self.noise)
        mean = (covariance @ (read * beyond[..., None]).sum(1)[..., None])[..., 0] / self.noise
        if self.sampler is not None:
            spread = torch.linalg.cholesky(covariance)
            draw = torch.randn(mean.shape, generator=self.sampler)
            mean = mean + self.alpha * (spread @ draw[..., None])[..., 0]
            return (self.values + mean @ self.features.T).argmax(dim=1)
        variance = ((self.features @ covariance) * self.features).sum(-1)
        bonus = self.alpha * variance.clamp(min=0).sqrt()
        return (self.values + mean @ self.features.T + bonus).argmax(dim=1)


@dataclass(frozen=True)
class FoldIn:
    """Implicit ALS: users are solved for from what they answered; before that the best item for everybody."""

    als: Als
    otherwise: torch.Tensor
    repeats: bool  # whether an item may be shown twice to a user

    @staticmethod
    def of(log: PreparedLog, options: AlsOptions, otherwise: torch.Tensor, *, repeats: bool) -> "FoldIn":
        """Return the factorisation of the log's answers."""
        answered = interaction_matrix(log, training_histories(log))
        return FoldIn(Als(options).fit_matrix(answered, otherwise.numpy()), otherwise, repeats)

    def __call__(self, states: StateBatch) -> torch.Tensor:
        """Return the items to show, (user,)."""
        row, place = torch.nonzero(states.present & (states.reward > 0), as_tuple=True)
        shape = (len(states.item), len(self.otherwise))
        item = states.item[row, place].numpy()
        told = sparse.csr_matrix((np.ones(len(row), np.float32), (row.numpy(), item)), shape=shape)
        told.data[:] = 1.0
        users = torch.from_numpy(solve_rows(told, self.als.factors_, self.als.options))
        spoken = users.any(dim=1, keepdim=True)
        scores = torch.where(spoken, users @ torch.from_numpy(self.als.factors_).T, self.otherwise)
        if not self.repeats:
            row, place = torch.nonzero(states.present, as_tuple=True)
            scores[row, states.item[row, place]] = -torch.inf
        return scores.argmax(dim=1)


@torch.no_grad()
def sequence_state(network: QNetwork) -> Act:
    """Return the greedy policy of a network that adapts by its state alone."""
    network.eval()
    vectors, bias = network.tower.table()

    def act(states: StateBatch) -> torch.Tensor:
        seen = network.state_vectors(states)
        asked = seen.advantage[torch.arange(len(states.item)), states.lengths]
        return (asked @ vectors.T + bias * network.temperature).argmax(dim=1)

    return act
