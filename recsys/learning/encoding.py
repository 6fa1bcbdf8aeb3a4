"""From a batch to encoded transitions: where the ranker and every other task come together.

Windows of histories pass through a sequence encoder, vector states through an MLP. What leaves this room has one form,
and every line of the update after it is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import torch

from recsys.config import PretrainConfig
from recsys.learning.remembered import RememberedTarget
from recsys.mdp.builder import Terminal, n_step_returns
from recsys.mdp.state import StateBatch
from recsys.mdp.transition import TransitionBatch
from recsys.mdp.windows import HISTORY_OVER, SESSION_OVER, WindowBatch, ever_taken, first_seen
from recsys.models.q_network import QNetwork, StateVectors, states_at
from recsys.models.vector_network import VectorNetwork

# states a batch learns values from: the rest of the batch costs only the supervised heads
MAX_TD_STATES = 512
MAX_SUPERVISED_STATES = 2_048  # likewise of the supervised heads

Batch = TypeVar("Batch", StateBatch, TransitionBatch)
Mask = Callable[
    [torch.Tensor], torch.Tensor
]  # states, (batch, feature) -> permitted actions, (batch, action)


@dataclass(frozen=True)
class LoggedActions:
    """States and what was done in them: what the supervised and the conservative loss are asked about."""

    states: StateVectors  # of the online network, (state, ...)
    action: torch.Tensor  # (state,) int64
    weight: torch.Tensor | None  # (state,) importance weights; None = 1
    row: torch.Tensor | None = None  # (state,) window that each came from
    windows: StateBatch | None = None  # know what their users take
    earlier: StateVectors | None = None  # (state, ...) what the conservative term asks; None = `states`

    def taken(self, item: torch.Tensor) -> torch.Tensor | None:
        """Mark shared items that each state's user takes before or after, (state, item): they are no negatives."""
        if self.row is None or self.windows is None:
            return None
        return ever_taken(self.windows, item)[self.row]


@dataclass(frozen=True)
class LoggedResponses:
    """States, what was shown in them and how it was answered."""

    states: StateVectors  # of the online network, (state, ...)
    item: torch.Tensor  # (state,) int64
    event_type: torch.Tensor  # (state,) int64
    weight: torch.Tensor | None  # (state,)


@dataclass(frozen=True)
class EncodedTransitions:
    """Transitions (s_t, a_t, …, s_{t+m}) whose states have passed through the networks; first axis state."""

    here: StateVectors  # s_t through the online network
    there: StateVectors | None  # s_{t+m} through the network that chooses there; None where none does
    target_there: StateVectors | None  # s_{t+m} through the target network; None where `q_there` says it all
    action: torch.Tensor  # (state,) int64
    n_step_return: torch.Tensor  # (state,)
    bootstrap: torch.Tensor  # (state,) 0 = terminal
    next_action: torch.Tensor  # (state,) int64, logged in s_{t+m}; -1 where the log was cut
    weight: torch.Tensor | None  # (state,)
    realised: (
        torch.Tensor | None
    )  # (state,) discounted return that the log earned from s_t on, if it is known
    row: torch.Tensor | None = None  # (state,) window that each came from; None = one transition per row
    column: torch.Tensor | None = None  # (state,) its place there
    allowed: torch.Tensor | None = None  # (state, action) what s_{t+m} permits; None = everything
    q_there: torch.Tensor | None = None  # (state, action) Q of s_{t+m} by the target network, if it is known

    def through_target(self) -> StateVectors:
        """Return s_{t+m} through the target network; raises RuntimeError where only its Q was remembered."""
        if self.target_there is None:
            raise RuntimeError(
                "the target network was not asked anew: only its Q of next states is remembered"
            )
        return self.target_there


class Encoding(Protocol):
    """One batch, encoded when asked: a warm-up needs no transitions."""

    def logged(self) -> LoggedActions:
        """Return the states that the supervised losses are asked about."""
        ...

    def transitions(self) -> EncodedTransitions:
        """Return the states that values are learnt from."""
        ...


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device; itself if it is there already."""
    if device.type == "cpu":
        return batch
    return replace(batch, **{column.name: getattr(batch, column.name).to(device) for column in fields(batch)})


class WindowEncoding:
    """Windows of histories; bookkeeping of places stays on the CPU, tensors of the network go to its device."""

    def __init__(
        self,
        network: QNetwork,
        target: QNetwork,
        batch: StateBatch,
        config: PretrainConfig,
        generator: torch.Generator,
        device: torch.device,
        weight: torch.Tensor | None = None,
        policy: QNetwork | None = None,  # chooses in next states; None = the online network does
    ) -> None:
        self.network, self.target, self.policy = network, target, policy
        self.weight = None if weight is None else weight.to(device)
        self.batch, self.on_device = batch, moved(batch, device)
        self.config, self.generator, self.device = config, generator, device
        self.states = network.state_vectors(self.on_device)

    def logged(self) -> LoggedActions:
        """Return the states before a new, rewarded item, and for the conservative term a share of earlier ones.

        Behaviour is what is done next; a good ranking puts what the user takes at any later time in front.
        """
        batch = self.batch
        rewarded = torch.from_numpy(first_seen(batch)) & (batch.reward > 0)
        row, column = self._some(rewarded, MAX_SUPERVISED_STATES)
        asked = column
        if self.config.hindsight > 0:
            earlier = (torch.rand(len(column), generator=self.generator) * (column + 1)).long()
            moved_back = torch.rand(len(column), generator=self.generator) < self.config.hindsight
            asked = torch.where(moved_back, earlier, column)
        row, column, asked = row.to(self.device), column.to(self.device), asked.to(self.device)
        return LoggedActions(
            states_at(self.states, row, column),
            self.on_device.item[row, column],
            None if self.weight is None else self.weight[row],
            row,
            self.on_device,
            states_at(self.states, row, asked) if self.config.hindsight > 0 else None,
        )

    def responses(self) -> LoggedResponses:
        """Return the states before at most MAX_SUPERVISED_STATES of the events."""
        row, column = self._some(self.batch.present, MAX_SUPERVISED_STATES)
        row, column = row.to(self.device), column.to(self.device)
        return LoggedResponses(
            states_at(self.states, row, column),
            self.on_device.item[row, column],
            self.on_device.event_type[row, column].long(),
            None if self.weight is None else self.weight[row],
        )

    def transitions(self) -> EncodedTransitions:
        """Return transitions from at most MAX_TD_STATES of the states."""
        batch = self.batch
        discount = step_discounts(
            batch, self.config.discount, self.config.discount_hours, self.config.terminal
        )
        returns, next_state, factor = n_step_returns(
            batch.reward, batch.lengths, discount, self.config.n_step
        )
        row, column = self._some(batch.present, MAX_TD_STATES)
        arrival = next_state[row, column]
        ends = arrival >= batch.lengths[row]
        following = batch.item[row, torch.clamp(arrival, max=batch.item.shape[1] - 1)].masked_fill(ends, -1)
        earned, left = returns_to_the_end(batch, discount)
        with torch.no_grad():
            target_states = self.target.state_vectors(self.on_device)
            chooser = self.states if self.policy is None else self.policy.state_vectors(self.on_device)
        told = (
            batch.item[row, column],
            returns[row, column],
            factor[row, column],
            following,
            earned[row, column],
            left[row, column],
            batch.lengths[row],
        )
        action, n_step_return, bootstrap, following, earned, left, last = (x.to(self.device) for x in told)
        row, column, arrival = row.to(self.device), column.to(self.device), arrival.to(self.device)
        after_the_log = target_states.behavior_return[row, last]
        return EncodedTransitions(
            states_at(self.states, row, column),
            states_at(chooser, row, arrival),
            states_at(target_states, row, arrival),
            action,
            n_step_return,
            bootstrap,
            following,
            weight=None if self.weight is None else self.weight[row],
            realised=earned + left * after_the_log,
            row=row,
            column=column,
        )

    def _some(self, places: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (window, place in it) of the marked places, (window, time), drawn if there are more than `most`."""
        row, column = torch.nonzero(places, as_tuple=True)
        if len(row) > most:
            kept = torch.randperm(len(row), generator=self.generator)[:most]
            row, column = row[kept], column[kept]
        return row, column


def step_discounts(
    batch: StateBatch, discount: float, unit_hours: float | None, terminal: Terminal = "never"
) -> float | torch.Tensor:
    """Return γ, or γ_t, (batch, time): 0 at the end of an episode, where neither rewards nor a bootstrap follow."""
    gamma = discount if unit_hours is None else _discounts_by_time(batch, discount, unit_hours)
    if terminal == "never":
        return gamma
    return torch.as_tensor(gamma).expand_as(batch.reward).masked_fill(ends_of_episodes(batch, terminal), 0.0)


def ends_of_episodes(batch: StateBatch, terminal: Terminal) -> torch.Tensor:
    """Mark the events that end a history or, asked for, a session, (batch, time); unknown ends are cuts."""
    ends = torch.zeros_like(batch.present)
    if terminal == "never":
        return ends
    if terminal == "session":
        ends[:, :-1] = (batch.new_session[:, 1:] > 0) & batch.present[:, 1:]
    if isinstance(batch, WindowBatch):
        least = SESSION_OVER if terminal == "session" else HISTORY_OVER
        row = torch.nonzero((batch.ending >= least) & (batch.lengths > 0))[:, 0]
        ends[row, batch.lengths[row] - 1] = True
    return ends


def _discounts_by_time(batch: StateBatch, discount: float, unit_hours: float) -> torch.Tensor:
    """Return γ_t = γ^(hours to the next event / unit), (batch, time); a window's last event counts one unit."""
    hours = torch.ones_like(batch.log_gap) * unit_hours
    hours[:, :-1] = torch.expm1(batch.log_gap[:, 1:])
    last = (batch.lengths - 1).clamp(min=0)[:, None]
    hours.scatter_(1, last, unit_hours)
    return torch.pow(torch.tensor(discount), hours / unit_hours)


def returns_to_the_end(
    batch: StateBatch, discount: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (discounted rewards to the end of the window, discount of what follows it) of each step, (batch, time)."""
    gamma = torch.as_tensor(discount).expand_as(batch.reward).masked_fill(~batch.present, 1.0)
    reward = batch.reward * batch.present
    earned, left = torch.zeros_like(reward), torch.ones_like(reward)
    so_far, factor = torch.zeros(len(reward)), torch.ones(len(reward))
    for step in reversed(range(reward.shape[1])):  # over the places of a window, never over events
        so_far = reward[:, step] + gamma[:, step] * so_far
        factor = gamma[:, step] * factor
        earned[:, step], left[:, step] = so_far, factor
    return earned, left


class VectorEncoding:
    """Transitions between feature vectors."""

    def __init__(
        self,
        network: VectorNetwork,
        target: VectorNetwork,
        batch: TransitionBatch,
        config: PretrainConfig,
        device: torch.device,
        mask: Mask | None = None,
        remembered: RememberedTarget | None = None,
        policy: VectorNetwork | None = None,
    ) -> None:
        self.target, self.mask = target, mask
        self.chooser = network if policy is None else policy
        self.remembered = remembered
        self.batch, self.config = moved(batch, device), config
        self.states: StateVectors = network(self.batch.state)

    def logged(self) -> LoggedActions:
        """Return every state of the batch."""
        return LoggedActions(self.states, self.batch.action, self.batch.weight)

    def transitions(self) -> EncodedTransitions:
        """Return every transition of the batch."""
        batch = self.batch
        with torch.no_grad():
            chooses = self.config.double and self.config.target != "sarsa"
            there = self.chooser(batch.next_state) if chooses else None
            if self.remembered is None:
                target_there, q_there = self.target(batch.next_state), None
            else:
                target_there, q_there = None, self.remembered.q_all(batch.index)
        return EncodedTransitions(
            self.states,
            there,
            target_there,
            batch.action,
            batch.n_step_return,
            batch.bootstrap,
            batch.next_action,
            batch.weight,
            realised=None,
            allowed=None if self.mask is None else self.mask(batch.next_state),
            q_there=q_there,
        )
