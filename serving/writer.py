"""Group commit: one thread commits whatever writes are waiting as one transaction, so an fsync is shared.

While one group is being made durable the next gathers, so throughput rises with load and no timer delays a
lone write. Callers await their own write; the event loop never waits for the disk.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serving.backend import Backend, Row
from serving.problems import StoreUnavailable

T = TypeVar("T")
MAX_GROUP = 512  # writes in one transaction

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Write(Generic[T]):
    """One caller's work inside a transaction: rows of events, or anything else."""

    future: asyncio.Future[T]
    synced: bool  # on disk, not just handed to the operating system, before the caller hears of it
    work: Callable[[Any], T] | None = None
    events: Sequence[Row] = ()
    scrub: bool = False  # afterwards no copy of deleted rows may stay


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


class GroupCommitWriter:
    """The thread that writes, with a connection of its own; a connection that breaks is made anew."""

    def __init__(self, backend: Backend, max_pending: int) -> None:
        self._backend = backend
        self._connection: Any = None
        self._max_pending = max_pending
        self._queue: queue.SimpleQueue[Write[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._closed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def pending(self) -> int:
        """Writes that wait."""
        return self._queue.qsize()

    def submit(self, work: Callable[[Any], T], *, synced: bool, scrub: bool = False) -> asyncio.Future[T]:
        """Queue a write; its future resolves once the transaction it is part of is committed.

        Raises StoreUnavailable if too many writes wait or the writer is closed.
        """
        self._check()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(Write(future, synced, work, scrub=scrub))
        return future

    def append(self, rows: Sequence[Row], *, synced: bool) -> asyncio.Future[int]:
        """Queue rows of events; the future says how many were new. Raises StoreUnavailable as `submit` does."""
        self._check()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put(Write(future, synced, events=rows))
        return future

    async def close(self) -> None:
        """Commit what waits, then stop."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closing")
        if self.pending >= self._max_pending:
            raise StoreUnavailable(
                f"{self.pending} writes wait for the store, at most {self._max_pending} may "
                "(RECSYS_MAX_PENDING_WRITES)"
            )

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
        self._drop_connection()

    def _commit_and_tell(self, group: list[Write[Any]]) -> None:
        try:
            outcomes = [_Outcome(value) for value in self._commit(group)]
        except self._backend.refusals as error:
            # One bad write must not take the others of its group with it: each gets a transaction of its own.
            outcomes = (
                [self._commit_alone(write) for write in group] if len(group) > 1 else [_Outcome(error=error)]
            )
        except Exception as error:
            outcomes = [self._failed(error)] * len(group)
        for write, outcome in zip(group, outcomes, strict=True):
            try:
                write.future.get_loop().call_soon_threadsafe(_resolve, write.future, outcome)
            except RuntimeError:  # the loop is gone, and with it whoever waited
                log.warning("a write finished after its caller had gone")

    def _commit_alone(self, write: Write[Any]) -> _Outcome:
        try:
            return _Outcome(self._commit([write])[0])
        except Exception as error:
            return self._failed(error)

    def _commit(self, group: list[Write[Any]]) -> list[Any]:
        backend = self._backend
        if self._connection is None:
            self._connection = backend.connect()
        connection = self._connection
        backend.begin(connection, synced=any(write.synced for write in group))
        try:
            values = self._done(connection, group)
            backend.commit(connection)
        except BaseException:
            backend.rollback(connection)
            raise
        if any(write.scrub for write in group):
            backend.scrub(connection)
        return values

    def _done(self, connection: Any, group: list[Write[Any]]) -> list[Any]:
        """Do the works in their order, neighbouring batches of events together."""
        values: list[Any] = []
        batches: list[Sequence[Row]] = []
        for write in group:
            if write.work is None:
                batches.append(write.events)
                continue
            if batches:
                values += self._backend.insert_events(connection, batches)
                batches = []
            values.append(write.work(connection))
        if batches:
            values += self._backend.insert_events(connection, batches)
        return values

    def _failed(self, error: Exception) -> _Outcome:
        if isinstance(error, self._backend.refusals) or not isinstance(error, self._backend.failures):
            return _Outcome(error=error)
        self._drop_connection()
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        log.error("the store refused a write: %s", reason)
        return _Outcome(error=StoreUnavailable(f"the store refused the write ({reason})"))

    def _drop_connection(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except Exception:
                log.debug("a broken connection could not be closed", exc_info=True)
            self._connection = None


def _resolve(future: asyncio.Future[Any], outcome: _Outcome) -> None:
    if future.done():  # its caller was cancelled
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.value)
