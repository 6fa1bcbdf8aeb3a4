"""Fitted Q evaluation: the Q-function of a given policy, learnt from a log by our own networks.

    Q ← argmin Σ (r + γ Σ_a' π(a' | s') Q⁻(s', a') − Q(s, a))²

Squared loss, always: what is sought is a mean. A Huber loss seeks something between mean and median, and where sessions
end at random its fixed point is biased upwards. Le, Voloshin & Yue (2019). The policy may draw; expectations over it
are taken in full, over all actions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from recsys.errors import UserError
from recsys.learning.target_network import frozen_copy
from recsys.mdp.state import StateBatch
from recsys.models.q_network import QNetwork, q_of_candidates, states_at
from recsys.models.vector_network import VectorNetwork
from recsys.types import FloatArray, LongArray

Network = QNetwork | VectorNetwork
States = torch.Tensor | StateBatch


@dataclass(frozen=True)
class FQESteps:
    """Logged steps and what the policy would do next; first axis step.

    States are read by row, so that histories are laid out a batch at a time: vectors (batch, feature), or tokens of
    histories for the ranker.
    """

    state: Callable[[LongArray], States]
    next_state: Callable[[LongArray], States]
    action: LongArray
    reward: FloatArray
    continues: FloatArray  # discount, 0 where the session ended
    next_policy: Callable[[LongArray], FloatArray]  # (batch, action), π(· | s')

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class FQESettings:
    """How long and how fast is fitted."""

    rounds: int = 40  # target networks, one after the other
    updates: int = 50  # steps of the optimiser for each
    batch: int = 512
    rate: float = 3e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rounds", "updates", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, must be at least 1; raise it")


@dataclass(frozen=True)
class FQEFigures:
    """What each round of fitting came to; (round,)."""

    loss: list[float]
    mean_q: list[float]


def q_of_all(network: Network, states: States) -> torch.Tensor:
    """Return Q of every action in each state, (batch, action); of histories, after their last event."""
    if isinstance(network, VectorNetwork):
        assert isinstance(states, torch.Tensor)  # noqa: S101 - the pair is the caller's
        return network.q_all(network(states))
    assert isinstance(states, StateBatch)  # noqa: S101
    last = states_at(network.state_vectors(states), torch.arange(len(states.lengths)), states.lengths)
    return q_of_candidates(last.advantage, last.value, network.item_side(torch.arange(network.shape.items)))


def fit_q(
    network: Network,
    steps: FQESteps,
    settings: FQESettings,
    generator: np.random.Generator,
    on_round: Callable[[], None] = lambda: None,
) -> FQEFigures:
    """Fit a network to the policy's Q in place; it is left in evaluation mode.

    Each round copies the network, and fits it to targets of the copy with a rate that falls over the rounds.
    """
    if not len(steps):
        raise UserError("0 steps are given, at least 1 is needed; bring a log with sessions")
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    network.eval()  # no dropout: what is fitted is what is asked
    losses, means = [], []
    for number in range(settings.rounds):
        target = frozen_copy(network)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * (1.0 - number / settings.rounds)
        total, seen = 0.0, 0.0
        for _ in range(settings.updates):
            rows = generator.integers(0, len(steps), min(settings.batch, len(steps)))
            goal = _targets(target, steps, rows)
            q_logged = q_of_all(network, steps.state(rows)).gather(
                1, torch.from_numpy(steps.action[rows])[:, None]
            )[:, 0]
            loss = ((q_logged - goal) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach())
            seen += float(q_logged.detach().mean())
        losses.append(total / settings.updates)
        means.append(seen / settings.updates)
        on_round()
    return FQEFigures(losses, means)


@torch.no_grad()
def _targets(target: Network, steps: FQESteps, rows: LongArray) -> torch.Tensor:
    policy = torch.from_numpy(steps.next_policy(rows).astype(np.float32))
    ahead = (policy * q_of_all(target, steps.next_state(rows))).sum(dim=1)
    return torch.from_numpy(steps.reward[rows]) + torch.from_numpy(steps.continues[rows]) * ahead


@torch.no_grad()
def values_under(
    network: Network,
    state: Callable[[LongArray], States],
    policy: Callable[[LongArray], FloatArray],  # (batch, action)
    action: LongArray,
    batch: int = 4096,
) -> tuple[FloatArray, FloatArray]:
    """Return (Q of the logged action, Σ_a π(a | s) Q(s, a)) of every state, (step,) each, a batch at a time."""
    q_logged, value = np.empty(len(action), np.float32), np.empty(len(action), np.float32)
    for start in range(0, len(action), batch):
        rows = np.arange(start, min(start + batch, len(action)))
        q_values = q_of_all(network, state(rows)).numpy()
        q_logged[rows] = q_values[np.arange(len(rows)), action[rows]]
        value[rows] = (policy(rows) * q_values).sum(axis=1)
    return q_logged, value
