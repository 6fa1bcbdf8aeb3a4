"""From a log to the columns that a replay stores: of events, or of vector states."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.errors import UserError
from recsys.logs.prepared import PreparedLog
from recsys.mdp.builder import (
    EventTransitions,
    ReturnRule,
    log_transitions,
    n_step_columns,
    next_actions,
    step_discounts,
)
from recsys.mdp.transition_store import (
    EVENT_SCHEMA,
    Array,
    MappedStore,
    StoreWriter,
    open_store,
)
from recsys.types import BoolArray, FloatArray, IntArray, LongArray


@dataclass(frozen=True)
class VectorLog:
    """Histories whose states are feature vectors, end to end."""

    state: FloatArray  # (event, feature), that before each event
    action: IntArray  # (event,)
    reward: FloatArray  # (event,)
    timestamp: LongArray  # (event,) seconds
    offsets: LongArray  # (history + 1,)
    final_state: FloatArray  # (history, feature), that after the last event
    terminal: BoolArray  # (history,) the episode ended there; False = only the log was cut


def vector_columns(log: VectorLog, rule: ReturnRule) -> dict[str, Array]:
    """Return the transitions of a vector log; what ends an episode is `log.terminal`, not the rule's."""
    if len(log.final_state) != len(log.offsets) - 1:
        raise UserError(
            f"{len(log.final_state)} final states do not fit {len(log.offsets) - 1} histories; give one per history"
        )
    discount = step_discounts(log.timestamp, log.offsets, rule)
    columns = n_step_columns(log.reward, discount, log.offsets, log.terminal, rule.n_step)
    arrival = np.minimum(np.arange(len(log.action)) + columns.steps, len(log.action) - 1)
    history = np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets))
    next_state = np.where(columns.goes_on[:, None], log.state[arrival], log.final_state[history])
    return {
        "state": log.state,
        "action": log.action,
        "n_step_return": columns.n_step_return,
        "bootstrap": columns.bootstrap,
        "next_state": next_state,
        "next_action": next_actions(log.action, columns),
    }


def event_columns(transitions: EventTransitions) -> dict[str, Array]:
    """Return transitions of a prepared log as columns."""
    return {
        "event": transitions.event,
        "action": transitions.action,
        "n_step_return": transitions.columns.n_step_return,
        "bootstrap": transitions.columns.bootstrap,
        "steps": transitions.columns.steps,
        "next_action": transitions.next_action,
    }


def write_log_store(
    folder: Path, log: PreparedLog, histories: LongArray, rule: ReturnRule, rows_at_once: int = 1_000_000
) -> MappedStore:
    """Write the training transitions of histories, some at a time, and map them."""
    with StoreWriter(folder, EVENT_SCHEMA) as writer:
        for transitions in log_transitions(log, histories, rule, rows_at_once):
            writer.append(event_columns(transitions))
    return open_store(folder)
