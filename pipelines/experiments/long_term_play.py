"""A recurrent Q-network among simulated users: what it brings them to, what it promised, and the log that it leaves.

`BatchedSessions.state` reads whole histories again at every step. A recurrent encoder need not: its hidden state after
t events and the newest token give the one after t + 1, so a life costs its length and not its square. The numbers are
those of `QNetwork.state_vectors` over the whole history (tests/truth/test_long_term.py).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recsys.errors import UserError
from recsys.logs.simulator import NONE, World
from recsys.logs.simulator_policies import Lives, Tally
from recsys.logs.simulator_sessions import BatchedSessions
from recsys.logs.simulator_stream import Actions
from recsys.mdp.state import StateBatch
from recsys.models.q_network import QNetwork
from recsys.models.session_encoder import RecurrentEncoder
from recsys.types import BoolArray, IntArray

NEWEST = 2  # tokens that sessions keep: the newest one, and the one that its time gap counts from


@dataclass(frozen=True)
class Played:
    """Lives of some users under one policy."""

    lives: Lives  # undiscounted
    discounted: Lives
    predicted: npt.NDArray[np.float64]  # (user,) max_a Q(s_0, a)
    segment: IntArray  # (user,)
    actions: Actions


@dataclass(frozen=True)
class Behavior:
    """π(i | s): uniform with probability ε, else softmax(Q / temperature); temperature 0 is greedy."""

    exploration: float = 0.0
    temperature: float = 0.0

    def choose(self, q_values: torch.Tensor, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return one item per user, (user,), from Q, (user, item)."""
        values = q_values.numpy()
        if self.temperature > 0:  # the largest of Q / τ plus Gumbel noise is a draw from the softmax
            values = values / self.temperature + generator.gumbel(size=values.shape).astype(np.float32)
        item: npt.NDArray[np.int64] = values.argmax(axis=1)
        uniform = generator.random(len(item)) < self.exploration
        item[uniform] = generator.integers(values.shape[1], size=int(uniform.sum()))
        return item


class RecurrentActor:
    """Q of every item for users whose histories it reads token by token."""

    def __init__(self, network: QNetwork, sessions: BatchedSessions, *, flat_rewards: bool = False) -> None:
        if not isinstance(network.states.encoder, RecurrentEncoder):
            raise UserError(
                f"encoder is {network.shape.encoder}, must be recurrent to be read token by token"
            )
        network.eval()
        self.network, self.sessions, self.flat_rewards = network, sessions, flat_rewards
        self.gru: nn.GRU = network.states.encoder.gru
        vectors, bias = network.tower.table()
        self.vectors, self.bias = vectors, bias * network.temperature
        batch = sessions.state()
        start, _ = network.states.tokens(batch, self.vectors[batch.item.clamp(min=0)])
        self.hidden = self.gru(start[:, None])[1]  # (layer, user, hidden)

    def q_values(self, rows: npt.NDArray[np.integer]) -> torch.Tensor:
        """Return Q(s, i) of the users at `rows`, (row, item)."""
        states = self.network.states
        top = self.hidden[-1, torch.from_numpy(rows)]
        q_values = states.advantage(top) @ self.vectors.T + self.bias
        return torch.as_tensor(q_values + states.scalars(top)[:, :1] if states.dueling else q_values)

    def read(self, rows: npt.NDArray[np.integer]) -> None:
        """Take in the newest token of the users at `rows`."""
        if not len(rows):
            return
        batch = newest(self.sessions.state(rows))
        if self.flat_rewards:  # as the network was told while it learnt
            batch = replace(batch, reward=(batch.reward > 0).float())
        _, tokens = self.network.states.tokens(batch, self.vectors[batch.item])
        place = torch.from_numpy(rows)
        self.hidden[:, place] = self.gru(tokens, self.hidden[:, place].contiguous())[1]


def newest(batch: StateBatch) -> StateBatch:
    """Return the last token of each history, (batch, 1); none may be empty."""
    last = batch.lengths[:, None] - 1
    return StateBatch(
        item=batch.item.gather(1, last),
        event_type=batch.event_type.gather(1, last),
        reward=batch.reward.gather(1, last),
        log_gap=batch.log_gap.gather(1, last),
        new_session=batch.new_session.gather(1, last),
        attributes=batch.attributes,
        lengths=torch.ones_like(batch.lengths),
    )


@torch.inference_mode()
def play_network(
    world: World,
    network: QNetwork,
    users: int,
    generator: np.random.Generator,
    discount: float,
    event_types: tuple[str, ...],
    behavior: Behavior | None = None,
    *,
    keeps_silence: bool = True,
    flat_rewards: bool = False,
) -> Played:
    """Play whole lives of new users by the network's Q."""
    behavior = behavior or Behavior()
    exploring = np.random.default_rng(generator.integers(2**63))
    sessions = BatchedSessions(world, users, NEWEST, generator, event_types, keeps_silence)
    segment = sessions.users.segment.copy()
    actor = RecurrentActor(network, sessions, flat_rewards=flat_rewards)
    whole, discounted = Tally(users, 1.0), Tally(users, discount)
    predicted = actor.q_values(np.arange(users)).max(dim=1).values.double().numpy()
    ordinal, shown = np.zeros(users, np.int32), np.zeros(users, np.int64)
    truncated: BoolArray = np.zeros(users, np.bool_)
    columns: list[tuple[npt.NDArray[np.generic], ...]] = []
    while not sessions.ended.all():
        rows = np.flatnonzero(~sessions.ended)
        shown[rows] = behavior.choose(actor.q_values(rows), exploring)
        clock = sessions.clock[rows].copy()
        step = sessions.step(shown)
        nothing = np.full(
            len(rows), np.nan
        )  # propensities, which learning from these actions does not ask for
        number = np.full(len(rows), len(columns))
        columns.append((rows, number, ordinal[rows], clock, shown[rows], nothing, step.response[rows]))
        whole.add(rows, step.reward[rows], step.session_ended[rows])
        discounted.add(rows, step.reward[rows], step.session_ended[rows])
        ordinal += step.session_ended
        truncated |= step.truncated
        seen = ~sessions.ended[rows]
        if not keeps_silence:
            seen &= step.response[rows] != NONE
        actor.read(rows[seen])
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    actions = Actions(*(column[order] for column in joined))
    return Played(whole.lives(truncated), discounted.lives(truncated), predicted, segment, actions)
