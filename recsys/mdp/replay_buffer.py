"""Experience replay: batches of transitions drawn uniformly or by priority from contiguous columns.

Drawing a batch is a handful of array operations whatever its size; chance is a generator passed in, so that a seeded
sampler repeats, and a prioritized replay's state can be saved and restored exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from recsys.errors import UserError
from recsys.mdp.priorities import Priorities, PriorityRule
from recsys.mdp.transition import TransitionBatch
from recsys.mdp.transition_store import Array, Columns, RingStore, TransitionStore
from recsys.types import FloatArray, LongArray


@dataclass(frozen=True)
class EventBatch:
    """Transitions whose states are read from a log: that before row `event` and that before row `next_event`."""

    event: LongArray  # (batch,) row of the log
    action: torch.Tensor  # (batch,) int64
    n_step_return: torch.Tensor  # (batch,)
    bootstrap: torch.Tensor  # (batch,) discount of the next state's value; 0 = terminal
    next_event: LongArray  # (batch,)
    next_action: (
        torch.Tensor
    )  # (batch,) int64, what was logged there; -1 where the episode goes on no further
    weight: torch.Tensor  # (batch,) importance weight of the sampling
    index: torch.Tensor  # (batch,) int64, place in the replay


class Replay(Protocol):
    """What batches of transitions are drawn from."""

    def __len__(self) -> int: ...

    def sample(self, batch_size: int, generator: np.random.Generator) -> TransitionBatch:
        """Draw transitions with vector states, with replacement."""
        ...

    def sample_events(self, batch_size: int, generator: np.random.Generator) -> EventBatch:
        """Draw transitions with states in a log, with replacement."""
        ...

    def update(self, index: torch.Tensor, td_error: torch.Tensor) -> None:
        """Take note of how wrong drawn transitions were, both (batch,)."""
        ...


class UniformReplay:
    """Every stored transition is as likely as any other."""

    def __init__(self, store: TransitionStore) -> None:
        self.store = store
        self._columns = plain_views(store)

    def __len__(self) -> int:
        return len(self.store)

    def sample(self, batch_size: int, generator: np.random.Generator) -> TransitionBatch:
        """Draw transitions with vector states, with replacement; every weight is 1."""
        return gather(self._columns, self._draw(batch_size, generator), np.ones(batch_size, np.float32))

    def sample_events(self, batch_size: int, generator: np.random.Generator) -> EventBatch:
        """Draw transitions with states in a log, with replacement; every weight is 1."""
        return gather_events(
            self._columns, self._draw(batch_size, generator), np.ones(batch_size, np.float32)
        )

    def update(self, index: torch.Tensor, td_error: torch.Tensor) -> None:
        """Do nothing: how wrong a transition was does not matter here."""

    def _draw(self, batch_size: int, generator: np.random.Generator) -> LongArray:
        refuse_empty(len(self.store))
        return generator.integers(0, len(self.store), batch_size)


class PrioritizedReplay:
    """Transitions are drawn by how wrong they were last; see `recsys.mdp.priorities`."""

    def __init__(self, store: TransitionStore, rule: PriorityRule) -> None:
        self.store = store
        self.priorities = Priorities(store.capacity, rule)
        self.priorities.add(np.arange(len(store)))
        self._columns = plain_views(store)

    def __len__(self) -> int:
        return len(self.store)

    def append(self, columns: Columns) -> None:
        """Store new transitions, in a ring, with the largest priority seen."""
        if not isinstance(self.store, RingStore):
            raise UserError(
                "a replay on disk is read-only, must be a RingStore to be added to; write with StoreWriter"
            )
        self.priorities.add(self.store.append(columns))

    def sample(self, batch_size: int, generator: np.random.Generator) -> TransitionBatch:
        """Draw transitions with vector states, with replacement."""
        return gather(self._columns, *self._draw(batch_size, generator))

    def sample_events(self, batch_size: int, generator: np.random.Generator) -> EventBatch:
        """Draw transitions with states in a log, with replacement."""
        return gather_events(self._columns, *self._draw(batch_size, generator))

    def update(self, index: torch.Tensor, td_error: torch.Tensor) -> None:
        """Set the priorities of drawn transitions from their TD errors, both (batch,)."""
        self.priorities.set_errors(index.numpy(), td_error.detach().cpu().numpy())

    def state(self) -> dict[str, Array]:
        """Return what `restore` needs to go on exactly: arrays by name."""
        held = self.store.state() if isinstance(self.store, RingStore) else {}
        return {**held, **{f"priority.{name}": array for name, array in self.priorities.state().items()}}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a saved state; raises UserError if it is that of another replay."""
        if isinstance(self.store, RingStore):
            self.store.restore(state)
        prefix = "priority."
        self.priorities.restore(
            {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        )

    def _draw(self, batch_size: int, generator: np.random.Generator) -> tuple[LongArray, FloatArray]:
        refuse_empty(len(self.store))
        return self.priorities.draw(batch_size, len(self.store), generator)


def refuse_empty(stored: int) -> None:
    """Raise UserError if there is nothing to draw from."""
    if stored == 0:
        raise UserError(
            "the replay holds 0 transitions, must hold 1 or more; check that the log has training events"
        )


def plain_views(store: TransitionStore) -> dict[str, Array]:
    """Return the columns as plain arrays: indexing a memory-map object costs more than reading its rows."""
    return {name: np.asarray(column) for name, column in store.columns.items()}


def gather(columns: Columns, place: LongArray, weight: FloatArray) -> TransitionBatch:
    """Return the transitions at some places; every tensor is a copy that later draws leave alone."""
    rows = {
        name: torch.from_numpy(columns[name].take(place, axis=0))
        for name in ("state", "action", "n_step_return", "bootstrap", "next_state", "next_action")
    }
    rows["action"], rows["next_action"] = rows["action"].long(), rows["next_action"].long()
    return TransitionBatch(**rows, weight=torch.from_numpy(weight), index=torch.from_numpy(place))


def gather_events(columns: Columns, place: LongArray, weight: FloatArray) -> EventBatch:
    """Return the transitions at some places of a store whose states are in a log."""
    event = columns["event"].take(place).astype(np.int64)
    return EventBatch(
        event=event,
        action=torch.from_numpy(columns["action"].take(place)).long(),
        n_step_return=torch.from_numpy(columns["n_step_return"].take(place)),
        bootstrap=torch.from_numpy(columns["bootstrap"].take(place)),
        next_event=event + columns["steps"].take(place).astype(np.int64),
        next_action=torch.from_numpy(columns["next_action"].take(place)).long(),
        weight=torch.from_numpy(weight),
        index=torch.from_numpy(place),
    )
