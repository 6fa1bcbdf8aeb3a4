"""Recommenders of the first twenty interactions, all from the same log: bandits, fold-in, sequence state, fast weights.

Each chooses one item for each present user from what was shown and answered so far (`StateBatch`), many users at once.
All that read features read the same: a one and the items' content.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import nn

from recsys.adaptation import AdaptationPrior, SupportSet
from recsys.learning.optimizer import grouped_optimizer, step
from recsys.logs.interactions import interaction_matrix
from recsys.logs.prepared import PreparedLog, training_histories
from recsys.mdp.state import StateBatch
from recsys.mdp.tasks import draw_shots
from recsys.mdp.windows import batches, cut_windows, read_windows
from recsys.models.q_network import QNetwork
from recsys.policies.als import Als, AlsOptions, solve_rows
from recsys.types import FloatArray, LongArray

Act = Callable[[StateBatch], torch.Tensor]  # states -> items, (user,)
MOST_EVENTS = 40  # of a user that the head learns from


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


def fixed(values: torch.Tensor) -> Act:
    """Return the policy that shows everybody the best item."""
    return lambda states: values.argmax().expand(len(states.item))


@dataclass(frozen=True)
class LinearBandit:
    """LinUCB (Li et al. 2010, algorithm 1) or linear Thompson sampling over what is known of items, one model a user.

    Rewards beyond the item's mean are xᵀθ with θ ~ N(0, τI) and the log's noise; shows the item with the highest
    Q_θ(i) + x_iᵀθ̂ + α √(x_iᵀ A⁻¹ x_i), or draws θ with α times the posterior's spread. Q_θ is that of `adapted`.
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
    ) -> "LinearBandit":
        """Return the bandit with what the log says of items."""
        item, reward = torch.from_numpy(np.array(log.item)).long(), torch.from_numpy(np.array(log.reward))
        expected = item_values(log, 0.0)
        noise = float((reward - expected[item]).var())
        values = item_values(log, discount)
        return LinearBandit(features_of(log), values, expected, noise, prior_variance, alpha, sampler)

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


class AdaptedHead(nn.Module):
    """Q_θ(i) + w_uᵀφ(i), w_u from AdaptationPrior.adapt: an event is evidence by its reward beyond the item's mean."""

    expected: torch.Tensor
    features: torch.Tensor

    def __init__(self, log: PreparedLog) -> None:
        super().__init__()
        self.register_buffer("expected", item_values(log, 0.0))
        self.register_buffer("features", features_of(log))
        width = self.features.shape[1]
        self.map = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.map.weight)
        self.prior = AdaptationPrior(width, len(log.info.event_types))
        with torch.no_grad():
            self.map.weight.mul_(0.3)
            self.prior.log_noise.fill_(-2.5)

    def support(self, states: StateBatch, present: torch.Tensor) -> SupportSet:
        """Return what was shown as evidence."""
        item = states.item.clamp(min=0)
        expected = self.expected[item]
        return SupportSet(
            item,
            states.event_type,
            states.reward,
            states.reward,
            expected,
            expected,
            present,
            states.attributes,
        )

    def loss(self, states: StateBatch, shots: torch.Tensor) -> torch.Tensor:
        """Return the squared error of what the first `shots` events say of the rewards of all that follow."""
        place = torch.arange(states.item.shape[1])
        told = (place < shots[:, None]) & states.present
        asked = (place >= shots[:, None]) & states.present
        phi = self.map(self.features)[states.item.clamp(min=0)]
        fast = self.prior.adapt(phi, self.support(states, told)).mean
        beyond = states.reward - self.expected[states.item.clamp(min=0)]
        error = ((phi * fast[:, None]).sum(-1) - beyond).square() * asked
        return error.sum() / asked.sum().clamp(min=1)

    def policy(self, values: torch.Tensor, alpha: float, most: int = 20) -> Act:
        """Return argmax Q_θ + w_uᵀφ + α √(φᵀΣφ) over the newest `most` events."""
        with torch.no_grad():
            phi = self.map(self.features)

        @torch.no_grad()
        def act(states: StateBatch) -> torch.Tensor:
            if states.item.shape[1] == 0:
                fast = self.prior.before_support(states.attributes)
                variance = phi.square().sum(-1).expand(len(states.item), -1)
            else:
                posterior = self.prior.adapt(
                    phi[states.item.clamp(min=0)], self.support(states, states.present)
                )
                fast, variance = posterior, posterior.variance(phi)
            return (values + fast.shift(phi) + alpha * variance.sqrt()).argmax(dim=1)

        return act


def learn_head(log: PreparedLog, generator: np.random.Generator, epochs: int = 3) -> AdaptedHead:
    """Return a head whose prior has learnt on the log's users, first events told, the rest asked."""
    head = AdaptedHead(log)
    optimizer = grouped_optimizer([(list(head.parameters()), 1e-2, 0.0)])
    for epoch in range(epochs):
        windows = cut_windows(log, training_histories(log), MOST_EVENTS, 2, generator)
        for rows in batches(windows, 128, generator):
            states = read_windows(log, rows, generator)
            shots = torch.from_numpy(draw_shots(states.lengths.numpy(), 20, generator))
            step(optimizer, head.loss(states, shots), 1.0 - epoch / epochs)
    return head.eval()
