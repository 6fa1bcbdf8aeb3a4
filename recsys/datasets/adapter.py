"""What every log format is turned into: batches of canonical events, an item table and a user table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pyarrow as pa

from recsys.types import BoolArray, LongArray


@dataclass(frozen=True)
class Refusal:
    """A source row that could not even be laid out in columns."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class EventBatch:
    """Some events of a log, not yet validated.

    A null in a required column means that the source had nothing there; what could not be read is null and
    marked in `refused`. Rows taken away by a stated cleaning rule are only counted.
    """

    events: pa.Table  # the columns of schema.EVENTS, nulls allowed in all of them
    rows: LongArray  # (event,) 1-based number of the source row
    raw: pa.Table  # the source rows, aligned with the events
    read: int  # source rows consumed
    refused: Mapping[str, BoolArray] = field(default_factory=dict)  # reason -> (event,) mask
    removed: Mapping[str, int] = field(default_factory=dict)  # cleaning rule -> source rows
    malformed: tuple[Refusal, ...] = ()


class Adapter(Protocol):
    """One log in one format; every method may be called more than once and starts from the beginning."""

    @property
    def source(self) -> str:
        """What is read, for people."""
        ...

    @property
    def merges_lines(self) -> bool:
        """Whether rows of one event id are lines of one event, whose values add up, or duplicates."""
        ...

    @property
    def session_gap_s(self) -> float | None:
        """Silence that ends a session, in seconds; None where the log names its sessions."""
        ...

    def expected_rows(self) -> int:
        """Return about how many rows there are."""
        ...

    def batches(self) -> Iterator[EventBatch]:
        """Stream the events."""
        ...

    def items(self) -> pa.Table | None:
        """Return the item table; None where the catalogue is whatever the events name."""
        ...

    def users(self) -> pa.Table | None:
        """Return the user table, where there is one."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """An adapter whose events can be read in pieces, by whoever has the machines."""

    def pieces(self) -> int:
        """Return how many pieces there are."""
        ...

    def piece(self, number: int) -> Iterator[EventBatch]:
        """Stream one piece; row numbers are those of the whole."""
        ...
