"""A pool on this machine: processes that each run one trial after another, and end with the process that began them."""

import multiprocessing
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pipelines.tuning.desk import Desk, Result
from pipelines.tuning.trial import GivenUp, Job, run_trial
from recsys.errors import UserError

MOST_DEATHS = 3  # of workers in a row, before the search stops


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    number: int | None = None  # of the job at work


def run_here(desk: Desk, workers: int) -> None:
    """Serve a desk with some processes on this machine.

    Raises UserError if processes keep dying, which lack of memory can do.
    """
    pool = [_start() for _ in range(workers)]
    deaths = 0
    try:
        _hand_out(desk, pool)
        while busy := [worker for worker in pool if worker.number is not None]:
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(worker for worker in busy if worker.pipe is pipe)
                died = _hear(desk, worker)
                deaths = deaths + 1 if died else 0
                if deaths == MOST_DEATHS:
                    raise UserError(
                        f"{deaths} trials in a row ended with their process, the last with exit code "
                        f"{worker.process.exitcode}; lower --workers if memory was short"
                    )
                if died:
                    pool[pool.index(worker)] = _start()
            _hand_out(desk, pool)
    finally:
        for worker in pool:
            worker.process.kill()
            worker.process.join()


def _hand_out(desk: Desk, pool: list[_Worker]) -> None:
    for worker in pool:
        if worker.number is None and (job := desk.next_job()) is not None:
            worker.pipe.send(job.plain())
            worker.number = job.number


def _hear(desk: Desk, worker: _Worker) -> bool:
    """Take one message of a worker; say whether its process has died instead."""
    number = worker.number
    assert number is not None  # noqa: S101
    try:
        kind, *said = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        desk.ended(number, Result(reason=f"its process ended with exit code {worker.process.exitcode}"))
        return True
    if kind == "epoch":
        worker.pipe.send(desk.go_on(number, *said))
        return False
    worker.number = None
    desk.ended(number, Result(*said))
    return False


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            job = Job(**pipe.recv())

            def go_on(stage: int, epoch: int, quality: float) -> bool:
                pipe.send(("epoch", stage, epoch, quality))
                return bool(pipe.recv())

            result: tuple[float | None, bool, str]
            try:
                result = (run_trial(job, go_on), False, "")
            except GivenUp:
                result = (None, True, "")
            except UserError as error:
                result = (None, False, str(error))
            except Exception as error:  # one trial's failure is not the search's; its log has the traceback
                result = (None, False, f"{type(error).__name__}: {error}")
            pipe.send(("ended", *result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
