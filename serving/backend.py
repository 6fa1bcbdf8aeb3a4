"""What an engine does for the store: connections, transactions, reads. SQLite and PostgreSQL, one room each."""

from collections.abc import Sequence
from typing import Any, Protocol

from serving.statements import Statement, Statements

Row = tuple[Any, ...]


class Backend(Protocol):
    """One engine; `connection` is that of its driver, used by the writer thread alone."""

    statements: Statements
    failures: tuple[type[Exception], ...]  # what the driver raises when the database cannot do its part
    refusals: tuple[type[Exception], ...]  # what it raises about one row

    def connect(self) -> Any:
        """Return a connection to write with; raises one of `failures`."""
        ...

    def begin(self, connection: Any, *, synced: bool) -> None:
        """Begin a transaction whose commit is on disk, or only with the operating system, when it returns."""
        ...

    def commit(self, connection: Any) -> None:
        """Commit."""
        ...

    def rollback(self, connection: Any) -> None:
        """Leave the transaction, if there is one."""
        ...

    def insert_events(self, connection: Any, batches: Sequence[Sequence[Row]]) -> list[int]:
        """Insert batches of rows of EVENT_COLUMNS; return how many of each were new."""
        ...

    def insert_lines(self, connection: Any, rows: Sequence[Row]) -> None:
        """Insert rows of IMPRESSION_COLUMNS."""
        ...

    def lock_catalogue(self, connection: Any) -> None:
        """Let no other transaction number a change before this one ends."""
        ...

    def scrub(self, connection: Any) -> None:
        """Leave no copy of deleted rows where it can be helped."""
        ...

    def insert_lines_at_once(self, rows: Sequence[Row]) -> bool:
        """Insert rows from the event loop if that takes no waiting; tell whether it was done."""
        ...

    async def read(self, statement: Statement, values: Row) -> list[Row]:
        """Return rows; raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Close what reads."""
        ...
