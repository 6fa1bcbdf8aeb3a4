"""Group commit: one thread commits whatever writes are waiting as one transaction, so an fsync is shared.

While one group is being made durable the next gathers, so throughput rises with load and no timer delays a
lone write. Callers await their own write; the event loop never waits for the disk.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serving.problems import StoreUnavailable

T = TypeVar("T")
MAX_GROUP = 512  # writes in one transaction

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Write(Generic[T]):
    """One caller's work inside a transaction."""

    work: Callable[[sqlite3.Connection], T]
    future: asyncio.Future[T]
    synced: bool  # on disk, not just handed to the operating system, before the caller hears of it
    scrub: bool  # afterwards no copy of deleted rows may stay in the write-ahead log


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


class GroupCommitWriter:
    """The only writer of one connection."""

    def __init__(self, connection: sqlite3.Connection, max_pending: int) -> None:
        self._connection = connection
        self._max_pending = max_pending
        self._queue: queue.SimpleQueue[Write[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._closed = False
        self._synced: bool | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def pending(self) -> int:
        """Writes that wait."""
        return self._queue.qsize()

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, synced: bool, scrub: bool = False
    ) -> asyncio.Future[T]:
        """Queue a write; its future resolves once the transaction it is part of is committed.

        Raises StoreUnavailable if too many writes wait or the writer is closed.
        """
        if self._closed:
            raise StoreUnavailable("the store is closing")
        if self.pending >= self._max_pending:
            raise StoreUnavailable(
                f"{self.pending} writes wait for the store, at most {self._max_pending} may "
                "(RECSYS_MAX_PENDING_WRITES)"
            )
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(Write(work, future, synced, scrub))
        return future

    async def close(self) -> None:
        """Commit what waits, then stop."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            group: list[Write[Any]] = []
            write = self._queue.get()
            while write is not None:
                group.append(write)
                if len(group) == MAX_GROUP:
                    break
                try:
                    write = self._queue.get_nowait()
                except queue.Empty:
                    break
            open_for_more = write is not None
            if group:
                self._commit_and_tell(group)

    def _commit_and_tell(self, group: list[Write[Any]]) -> None:
        try:
            outcomes = [_Outcome(value) for value in self._commit(group)]
        except Exception as error:
            # One bad write must not take the others of its group with it: each gets a transaction of its own.
            outcomes = [self._commit_alone(write) for write in group] if len(group) > 1 else [_failed(error)]
        for write, outcome in zip(group, outcomes, strict=True):
            try:
                write.future.get_loop().call_soon_threadsafe(_resolve, write.future, outcome)
            except RuntimeError:  # the loop is gone, and with it whoever waited
                log.warning("a write finished after its caller had gone")

    def _commit_alone(self, write: Write[Any]) -> _Outcome:
        try:
            return _Outcome(self._commit([write])[0])
        except Exception as error:
            return _failed(error)

    def _commit(self, group: list[Write[Any]]) -> list[Any]:
        synced = any(write.synced for write in group)
        if synced != self._synced:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            values = [write.work(self._connection) for write in group]
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if any(write.scrub for write in group):
            self._scrub()
        return values

    def _scrub(self) -> None:
        try:
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except (
            sqlite3.OperationalError
        ):  # the deletion itself is committed and must not be reported as failed
            busy = 1
        if busy:
            log.warning(
                "another process reads the store: deleted rows stay in its write-ahead log until it is reused"
            )


def _failed(error: Exception) -> _Outcome:
    if isinstance(error, sqlite3.OperationalError):
        log.error("the store refused a write: %s", error)
        return _Outcome(error=StoreUnavailable(f"the store refused the write ({error})"))
    return _Outcome(error=error)


def _resolve(future: asyncio.Future[Any], outcome: _Outcome) -> None:
    if future.done():  # its caller was cancelled
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)
