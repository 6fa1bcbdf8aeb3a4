"""From logged events to transitions: n-step returns, discounts and where to bootstrap, vectorised.

The action of event t is its item, taken in the state before it; the next state of an m-step transition is the one
before event t + m. With γ_t the discount between event t and the one after it,

    return_t = Σ_{j<m} (Π_{l<j} γ_{t+l}) r_{t+j},   bootstrap_t = Π_{l<m} γ_{t+l},   m = min(n, events left)

and the bootstrap is 0 where the m-th step ends the episode (terminal). A history is by default cut by the log and not
ended by the user (truncated): its last events keep the shorter return that is known and bootstrap from the last state.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from recsys.errors import UserError
from recsys.logs.prepared import PreparedLog
from recsys.types import BoolArray, FloatArray, IntArray, LongArray

Terminal = Literal["never", "session", "history"]
DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReturnRule:
    """How events become returns."""

    n_step: int
    discount: float  # γ
    unit_hours: float | None = None  # γ per this many hours, None for γ per event
    terminal: Terminal = (
        "never"  # what ends an episode; where the training part is cut, life goes on all the same
    )

    def __post_init__(self) -> None:
        if self.n_step < 1:
            raise UserError(f"n_step is {self.n_step}, must be 1 or more; set it to 1 for one-step targets")
        if not 0.0 <= self.discount <= 1.0:
            raise UserError(f"discount is {self.discount}, must be within [0, 1]; 0.5 is usual for ranking")
        if self.unit_hours is not None and not (0.0 < self.unit_hours < math.inf):
            raise UserError(
                f"unit_hours is {self.unit_hours}, must be a positive number of hours (24 for γ per day); "
                "leave it out for γ per event"
            )


@dataclass(frozen=True)
class NStepColumns:
    """What n-step learning needs of each event; all (event,)."""

    n_step_return: FloatArray
    bootstrap: FloatArray  # 0 = terminal
    steps: IntArray  # m; the next state is the one before event t + m
    goes_on: BoolArray  # event t + m is of the same episode, so its action is the logged next action


def n_step_columns(
    reward: npt.NDArray[np.floating],  # (event,)
    discount: npt.NDArray[np.floating],  # (event,) γ_t between event t and the one after it
    offsets: LongArray,  # (episode + 1,) first event of each episode
    terminal: BoolArray,  # (episode,) False = truncated
    n_step: int,
) -> NStepColumns:
    """Return the columns of episodes that lie end to end."""
    refuse_unusable(reward, discount)
    length = np.diff(offsets)
    events = len(reward)
    left = np.repeat(offsets[1:], length) - np.arange(events)
    returns = np.zeros(events)
    product = np.ones(events)
    for offset in range(
        min(n_step, int(length.max(initial=0)))
    ):  # over the steps of a return, never over events
        here = slice(0, events - offset)
        alive = left[here] > offset
        returns[here] += np.where(alive, product[here] * reward[offset:], 0.0)
        product[here] *= np.where(alive, discount[offset:], 1.0)
    steps = np.minimum(left, n_step)
    goes_on = left > steps
    ends = np.repeat(np.asarray(terminal, bool), length) & ~goes_on
    return NStepColumns(
        returns.astype(np.float32),
        np.where(ends, 0.0, product).astype(np.float32),
        steps.astype(np.int32),
        goes_on,
    )


def refuse_unusable(reward: npt.NDArray[np.floating], discount: npt.NDArray[np.floating]) -> None:
    """Raise UserError at the first reward that is no finite number or discount outside [0, 1]."""
    bad = np.flatnonzero(~np.isfinite(reward))
    if len(bad):
        raise UserError(
            f"the reward of event {bad[0]} is {reward[bad[0]]}, must be a finite number; "
            "mend the log or the reward configuration"
        )
    bad = np.flatnonzero(~((discount >= 0.0) & (discount <= 1.0)))
    if len(bad):
        raise UserError(
            f"the discount of event {bad[0]} is {discount[bad[0]]}, must be within [0, 1]; set discount so"
        )


def step_discounts(
    timestamp: npt.NDArray[np.integer],  # (event,) seconds
    offsets: LongArray,  # (history + 1,)
    rule: ReturnRule,
) -> DoubleArray:
    """Return γ_t of each event: γ, or γ^(Δt / unit) with Δt ≥ 0 the time to the history's next event; (event,).

    The time that passes after a history's last event is unknown and counts as one unit.
    """
    if rule.unit_hours is None:
        return np.full(len(timestamp), rule.discount)
    gap = np.diff(timestamp, append=timestamp[-1:]) / (3600.0 * rule.unit_hours)
    gap[(offsets[1:] - 1)[np.diff(offsets) > 0]] = 1.0
    discounts: DoubleArray = np.power(rule.discount, np.maximum(gap, 0.0))
    return discounts


def episodes_of(
    session: npt.NDArray[np.integer],  # (event,) ordinal in the history
    offsets: LongArray,  # (history + 1,)
    continued: BoolArray,  # (history,) the last session goes on behind what is given
    cut: BoolArray,  # (history,) the history goes on behind what is given
    terminal: Terminal,
) -> tuple[LongArray, BoolArray]:
    """Return (offsets, terminal?) of the episodes that histories fall into: sessions, or whole histories."""
    filled = np.diff(offsets) > 0
    starts = offsets[:-1][filled]
    if terminal != "session":
        ended = np.full(len(starts), terminal == "history") & ~cut[filled]
        return np.append(starts, offsets[-1:]), ended
    begins = np.zeros(len(session), bool)
    begins[1:] = session[1:] != session[:-1]
    begins[starts] = True
    episodes = np.append(np.flatnonzero(begins), offsets[-1:])
    ended = np.ones(len(episodes) - 1, bool)
    ended[np.searchsorted(episodes[1:], offsets[1:][filled])] = ~continued[filled]
    return episodes, ended


@dataclass(frozen=True)
class EventTransitions:
    """Transitions of a log whose states are read from the log itself; all (transition,)."""

    event: LongArray  # row of the log: the state is that before it, the action its item
    action: IntArray
    columns: NStepColumns
    next_action: IntArray  # -1 where the episode goes on no further


def log_transitions(
    log: PreparedLog, histories: LongArray, rule: ReturnRule, rows_at_once: int = 1_000_000
) -> Iterator[EventTransitions]:
    """Yield the transitions of the training parts of histories, some whole histories at a time."""
    for part in _parts(log.history_train_end[histories], rows_at_once):
        yield _transitions_of(log, histories[part], rule)


def _transitions_of(log: PreparedLog, histories: LongArray, rule: ReturnRule) -> EventTransitions:
    begin, length = log.history_offsets[histories], log.history_train_end[histories]
    offsets = np.concatenate([[0], np.cumsum(length)])
    event = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], length)
    session = np.asarray(log.session[event])
    end, whole = begin + length, log.history_offsets[histories + 1]
    cut = end < whole
    last, after = np.maximum(end - 1, 0), np.minimum(end, max(len(log.session) - 1, 0))
    continued = cut & (log.session[last] == log.session[after])
    episodes, ended = episodes_of(session, offsets, continued, cut, rule.terminal)
    discount = step_discounts(np.asarray(log.timestamp[event]), offsets, rule)
    columns = n_step_columns(np.asarray(log.reward[event]), discount, episodes, ended, rule.n_step)
    action = np.asarray(log.item[event])
    return EventTransitions(event, action, columns, next_actions(action, columns))


def next_actions(action: npt.NDArray[np.integer], columns: NStepColumns) -> IntArray:
    """Return the logged action of each next state, -1 where there is none; (event,)."""
    arrival = np.minimum(np.arange(len(action)) + columns.steps, len(action) - 1)
    return np.where(columns.goes_on, action[arrival], -1).astype(np.int32)


def _parts(length: LongArray, rows_at_once: int) -> Iterator[slice]:
    """Yield runs of histories that hold about `rows_at_once` events, one history at least."""
    ends = np.cumsum(length)
    first = 0
    while first < len(length):
        held = ends[first - 1] if first else 0
        behind = max(first + 1, int(np.searchsorted(ends, held + rows_at_once, side="right")))
        yield slice(first, behind)
        first = behind


def n_step_returns(
    reward: torch.Tensor,  # (batch, time)
    lengths: torch.Tensor,  # (batch,)
    discount: float | torch.Tensor,  # γ, or γ_t, (batch, time)
    n_step: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (return, state index t + m, bootstrap) of each step of truncated windows, padded behind.

    All three have shape (batch, time); padding holds zeros, index 0 and factor 0.
    """
    time = reward.shape[1]
    step = torch.arange(time, device=reward.device)[None, :]
    left = (lengths[:, None] - step).clamp(min=0)
    gamma = torch.as_tensor(discount, dtype=reward.dtype, device=reward.device).expand_as(reward)
    returns = torch.zeros_like(reward)
    product = torch.ones_like(reward)
    for offset in range(min(n_step, time)):
        here = slice(0, time - offset)
        alive = left[:, here] > offset
        returns[:, here] += torch.where(alive, product[:, here] * reward[:, offset:], 0.0)
        product[:, here] *= torch.where(alive, gamma[:, offset:], 1.0)
    present = left > 0
    return returns, torch.where(present, step + left.clamp(max=n_step), 0), product * present
