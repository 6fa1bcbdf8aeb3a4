"""Many simulated users at once, seen as a recommender sees them: by their histories.

A token is one shown item: (item, event type, reward, time, session), where the event type is `impression` if there was
no response. Networks that were trained on feedback alone read histories without those tokens: `keeps_silence=False`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from recsys.errors import UserError
from recsys.logs.simulator import NONE, RESPONSES, Outcome, RealArray, UserState, World
from recsys.logs.simulator_policies import MOST_STEPS, Lives, Tally
from recsys.logs.simulator_stream import EPOCH_S
from recsys.mdp.state import StateBatch, lay_tokens
from recsys.types import BoolArray, ByteArray, LongArray

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class Step:
    """What one item shown to each present user led to; arrays of shape (user,), zero for who was gone before."""

    reward: RealArray
    response: ByteArray  # code into RESPONSES
    session_ended: BoolArray
    terminated: BoolArray  # gone for good with this step
    truncated: BoolArray  # still there, but the step limit is reached


class BatchedSessions:
    """Users in parallel; who has ended stands still and earns nothing until restarted."""

    def __init__(
        self,
        world: World,
        users: int,
        max_events: int,
        generator: np.random.Generator,
        event_types: Sequence[str] = RESPONSES,  # the log's; their places are the codes
        keeps_silence: bool = True,
        knows_segments: bool = True,  # attribute codes are segment + 1, as in a prepared log; else 0, unknown
        max_steps: int = MOST_STEPS,
    ) -> None:
        for name, value in (("users", users), ("max_events", max_events), ("max_steps", max_steps)):
            if value < 1:
                raise UserError(f"{name} is {value}, must be at least 1; give more {name}")
        if missing := [name for name in RESPONSES if name not in event_types]:
            raise UserError(
                f"event types {list(event_types)} lack {missing[0]}; a simulated user may do that"
            )
        self.world = world
        self.users: UserState = world.begin(users, generator)  # hidden; for oracles, not for recommenders
        self.ended: BoolArray = np.zeros(users, np.bool_)
        self.clock: LongArray = np.full(users, EPOCH_S, np.int64)  # when the next item is shown, seconds
        self.max_events = max_events
        self._max_steps = max_steps
        self._generator = generator
        self._codes = np.array([list(event_types).index(name) for name in RESPONSES], np.int8)
        self._keeps_silence = keeps_silence
        self._knows_segments = knows_segments
        shape = (users, max_events)
        self._item = np.full(shape, -1, np.int32)
        self._event_type = np.zeros(shape, np.int8)
        self._reward = np.zeros(shape, np.float32)
        self._timestamp = np.zeros(shape, np.int64)
        self._session = np.zeros(shape, np.int32)
        self._length = np.zeros(users, np.int64)  # tokens kept
        self._steps = np.zeros(users, np.int64)
        self._ordinal = np.zeros(users, np.int32)  # of the session

    def __len__(self) -> int:
        return len(self.ended)

    def state(self, rows: npt.NDArray[np.integer] | None = None) -> StateBatch:
        """Return the tokens of the users at `rows`, (row,), or of all of them, gone or not."""
        rows = np.arange(len(self)) if rows is None else rows
        lengths = self._length[rows]
        kept = np.arange(self.max_events) < lengths[:, None]  # (row, time)
        segment = self.users.segment[rows] + 1 if self._knows_segments else np.zeros(len(rows), np.int64)
        return lay_tokens(
            item=self._item[rows][kept],
            event_type=self._event_type[rows][kept],
            reward=self._reward[rows][kept],
            timestamp=self._timestamp[rows][kept],
            session=self._session[rows][kept],
            lengths=lengths,
            attributes=segment[:, None],
        )

    def step(self, item: npt.NDArray[np.integer]) -> Step:
        """Show `item` (user,) to each user; what stands there for users who have ended is not shown."""
        rows = np.flatnonzero(~self.ended)
        shown = np.asarray(item)[rows]
        if len(shown) and not 0 <= shown.min() <= shown.max() < self.world.settings.items:
            raise UserError(
                f"item indices reach from {shown.min()} to {shown.max()}, must lie in 0 to "
                f"{self.world.settings.items - 1}; show items of the catalogue"
            )
        outcome = self.world.step(self.users.at(rows), shown, self._generator)
        self._remember(rows, shown, outcome)
        self.users = self.users.put(rows, outcome.users)
        self._steps[rows] += 1
        self._ordinal[rows] += outcome.session_ended
        self.clock[rows] += outcome.gap_s
        cut = (self._steps[rows] >= self._max_steps) & ~outcome.terminated
        self.ended[rows] = outcome.terminated | cut
        return Step(
            reward=_spread(len(self), rows, outcome.reward),
            response=_spread(len(self), rows, outcome.response),
            session_ended=_spread(len(self), rows, outcome.session_ended),
            terminated=_spread(len(self), rows, outcome.terminated),
            truncated=_spread(len(self), rows, cut),
        )

    def restart(self, rows: npt.NDArray[np.integer] | None = None) -> LongArray:
        """Put new users in the place of those at `rows`, or of all who have ended; return the rows."""
        chosen = np.flatnonzero(self.ended) if rows is None else np.asarray(rows, np.int64)
        self.users = self.users.put(chosen, self.world.begin(len(chosen), self._generator))
        self.ended[chosen] = False
        for array in (self._length, self._steps, self._ordinal):
            array[chosen] = 0
        self._item[chosen] = -1
        self.clock[chosen] = EPOCH_S
        return chosen

    def _remember(self, rows: LongArray, item: npt.NDArray[np.integer], outcome: Outcome) -> None:
        """Append one token to each history, dropping the oldest where there is no room."""
        noted = np.full(len(rows), True) if self._keeps_silence else outcome.response != NONE
        rows = rows[noted]
        full = rows[self._length[rows] == self.max_events]
        tokens = {
            "_item": item[noted],
            "_event_type": self._codes[outcome.response[noted]],
            "_reward": outcome.reward[noted],
            "_timestamp": self.clock[rows],
            "_session": self._ordinal[rows],
        }
        self._length[full] -= 1
        for name, values in tokens.items():
            array = getattr(self, name)
            array[full, :-1] = array[full, 1:]
            array[rows, self._length[rows]] = values
        self._length[rows] += 1


def _spread(size: int, rows: LongArray, values: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
    """Return (size,) values that stand at `rows`, zero elsewhere."""
    spread = np.zeros(size, values.dtype)
    spread[rows] = values
    return spread


def play(
    sessions: BatchedSessions,
    act: Callable[[StateBatch], npt.NDArray[np.integer] | torch.Tensor],
    discount: float = 1.0,
) -> Lives:
    """Let `act` (states -> items, both by row) choose for every present user until all have ended."""
    tally = Tally(len(sessions), discount)
    truncated = np.zeros(len(sessions), np.bool_)
    item = np.zeros(len(sessions), np.int64)
    while not sessions.ended.all():
        rows = np.flatnonzero(~sessions.ended)
        with torch.no_grad():
            item[rows] = np.asarray(act(sessions.state(rows)))
        step = sessions.step(item)
        tally.add(rows, step.reward[rows], step.session_ended[rows])
        truncated |= step.truncated
    return tally.lives(truncated)
