"""Opens what an endpoint has logged, its store or an export, and reads it into a folder."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from recsys.errors import UserError
from recsys.evaluation.replay.snapshot import read_export, read_store
from recsys.logs.live_log import LiveLog


class _Remote:
    """PostgreSQL whose answers are fetched as they are read: a cursor of the server's for each statement."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection, self._number = connection, 0

    def execute(self, statement: str, /) -> Any:
        """Run a statement and return a cursor."""
        self._number += 1
        return self._connection.cursor(name=f"loop_{self._number}").execute(statement)


@contextmanager
def traffic(
    log: Path | None, store: str | None, folder: Path, session_gap_minutes: float
) -> Iterator[LiveLog]:
    """Read the traffic into a folder of its own, which is gone afterwards: the store alone remembers users.

    Raises UserError if neither or both sources are given, or the one given cannot be read.
    """
    if (log is None) == (store is None):
        raise UserError(
            "give either --store (the endpoint's file or PostgreSQL address) or --log (its export)"
        )
    shutil.rmtree(folder, ignore_errors=True)  # of a round that was killed
    folder.mkdir(parents=True)
    try:
        if log is not None:
            yield read_export(log, folder, session_gap_minutes)
        else:
            assert store is not None  # noqa: S101 - one of the two is given
            yield _from_store(store, folder, session_gap_minutes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _from_store(store: str, folder: Path, session_gap_minutes: float) -> LiveLog:
    try:
        if store.startswith("postgresql"):
            with psycopg.connect(store) as remote:
                # one moment of the store, whatever is written meanwhile
                remote.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                remote.read_only = True
                return read_store(_Remote(remote), folder, session_gap_minutes)
        if not Path(store).is_file():
            raise UserError(f"no store at {store}; give the file that the endpoint writes to")
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as local:
            local.execute("BEGIN")
            return read_store(local, folder, session_gap_minutes)
    except (sqlite3.DatabaseError, psycopg.Error) as error:
        named = store.rpartition("@")[2]  # a password stays out of what is said
        raise UserError(f"{named} is no live store ({error}); give the endpoint's own") from None
