"""Prepared logs made in memory, event by event, for tests that must know every answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.logs.prepared import PreparedInfo, PreparedLog, Role
from recsys.mdp.state import History

EVENT_TYPES = ("cancellation", "click", "impression", "purchase")
PURCHASE = EVENT_TYPES.index("purchase")


@dataclass(frozen=True)
class Event:
    """One event; a purchase unless told otherwise."""

    item: int
    second: int = 0
    session: int = 0
    reward: float = 1.0
    event_type: int = PURCHASE


@dataclass(frozen=True)
class Told:
    """One history as a test tells it."""

    events: Sequence[Event]
    role: Role = Role.TRAIN
    train_end: int | None = None  # all events of a training history
    attribute: int | None = 1  # None: an anonymous session


def taken(
    *items: int, role: Role = Role.TRAIN, train_end: int | None = None, attribute: int | None = 1
) -> Told:
    """Tell a history of purchases, an hour apart, in one session."""
    events = [Event(item, 3600 * place) for place, item in enumerate(items)]
    return Told(events, role, train_end, attribute)


def memory_log(histories: Sequence[Told], items: int = 10, test_from: str | None = None) -> PreparedLog:
    """Lay the histories end to end as `prepare` does; every identified one is a user with one attribute."""
    events = [event for told in histories for event in told.events]
    lengths = np.array([len(told.events) for told in histories], np.int64)
    known = np.array([told.attribute is not None for told in histories], bool)
    ends = [
        (len(told.events) if told.role == Role.TRAIN else 0) if told.train_end is None else told.train_end
        for told in histories
    ]
    info = PreparedInfo(
        source="a test",
        event_types=EVENT_TYPES,
        user_attributes=("country",),
        user_attribute_values=(("UK", "France"),),
        reward_base={},
        reward_per_log_value={},
        events=len(events),
        items=items,
        users=int(known.sum()),
        histories=len(histories),
        sessions=0,
        quarantined={},
        first_event="",
        last_event="",
        test_from=test_from,
        validation_from=None,
    )
    return PreparedLog(
        root=Path("nowhere"),
        info=info,
        content=np.random.default_rng(0).normal(size=(items, 4)).astype(np.float32),
        user_attributes=np.array(
            [[t.attribute] for t in histories if t.attribute is not None], np.int32
        ).reshape(-1, 1),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        history_user=np.where(known, np.cumsum(known) - 1, -1).astype(np.int32),
        history_role=np.array([told.role for told in histories], np.int8),
        history_train_end=np.array(ends, np.int64),
        item=np.array([event.item for event in events], np.int32),
        event_type=np.array([event.event_type for event in events], np.int8),
        reward=np.array([event.reward for event in events], np.float32),
        timestamp=np.array([event.second for event in events], np.int64),
        session=np.array([event.session for event in events], np.int32),
    )


def history(*events: Event, attribute: int = 1) -> History:
    """Return the history of some events."""
    return History(
        item=np.array([event.item for event in events], np.int32),
        event_type=np.array([event.event_type for event in events], np.int8),
        reward=np.array([event.reward for event in events], np.float32),
        timestamp=np.array([event.second for event in events], np.int64),
        session=np.array([event.session for event in events], np.int32),
        attributes=np.array([attribute], np.int32),
    )


def random_history(generator: np.random.Generator, events: int, items: int = 10) -> History:
    """Return a history whose every column varies."""
    return History(
        item=generator.integers(0, items, events).astype(np.int32),
        event_type=generator.integers(0, len(EVENT_TYPES), events).astype(np.int8),
        reward=generator.normal(size=events).astype(np.float32),
        timestamp=np.sort(generator.integers(0, 10**6, events)).astype(np.int64),
        session=np.sort(generator.integers(0, 4, events)).astype(np.int32),
        attributes=generator.integers(0, 3, 1).astype(np.int32),
    )


def random_told(generator: np.random.Generator, events: int, items: int = 10) -> Told:
    """Tell a training history with several sessions and ties in time."""
    seconds = np.sort(generator.integers(0, max(2, events // 2), events)) * 600
    sessions = seconds // 3000
    rewards = generator.choice([1.0, -1.0, 0.2], events)
    told = [
        Event(int(item), int(second), int(session), float(reward))
        for item, second, session, reward in zip(
            generator.integers(0, items, events), seconds, sessions, rewards, strict=True
        )
    ]
    return Told(told, train_end=int(generator.integers(0, events + 1)))
