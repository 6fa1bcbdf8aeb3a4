"""What is particular to the embedded store: files, locks, processes."""

import asyncio
import multiprocessing
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from recsys.errors import UserError
from recsys.logs.live_tables import LIVE_REVISION
from serving.problems import StoreUnavailable
from tests.serving.store_samples import line, open_embedded, row

OLD_STORE = (
    """
CREATE TABLE events (event_id TEXT NOT NULL, user_id TEXT NOT NULL, session_id TEXT, timestamp INTEGER NOT NULL,
  item_id TEXT NOT NULL, event_type TEXT NOT NULL, value REAL, recommendation_id TEXT, position INTEGER,
  propensity REAL, policy_version TEXT, received_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, timestamp, received_at, event_id), UNIQUE (event_id)) WITHOUT ROWID;
CREATE TABLE impressions (recommendation_id TEXT NOT NULL PRIMARY KEY, user_id TEXT NOT NULL, session_id TEXT,
  timestamp INTEGER NOT NULL, model TEXT NOT NULL, policy TEXT NOT NULL, served_by TEXT NOT NULL,
  seed INTEGER NOT NULL, support_events INTEGER NOT NULL, slate TEXT NOT NULL, request BLOB NOT NULL);
CREATE INDEX impressions_by_user ON impressions (user_id, timestamp);
CREATE TABLE facts (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE users (user_id TEXT NOT NULL PRIMARY KEY, attributes TEXT NOT NULL) WITHOUT ROWID;
CREATE VIEW logged_events AS SELECT event_id FROM events;
PRAGMA user_version = 2;
INSERT INTO events VALUES ('e', 'u', NULL, 5, 'i1', 'click', NULL, NULL, NULL, NULL, NULL, 7);
INSERT INTO users VALUES ('u', '{"country":"UK"}');
INSERT INTO impressions VALUES ('r0', 'u', NULL, 5, 'v0', 'greedy', 'adapted', 3, 0, '[["i2", 0.1, 0.5]]',
  x'"""
    + zlib.compress(
        b'{"n":1,"rung":"adapted","exclude_seen":true,"exclude":[],"attributes":{},"events":[],"candidates":["i2","i3"]}'
    ).hex()
    + """');
"""
)


def test_no_byte_of_a_forgotten_user_stays_in_any_file_of_the_store(tmp_path, run):
    store = open_embedded(tmp_path / "store.sqlite")
    secret = "Ada-Lovelace-1815"
    run(store.append([row(f"e{n}", user=secret) for n in range(100)] + [row("other", user="other")]))
    for number in range(20):
        run(store.record(line(f"r{number}", user=secret)))
    assert any(secret.encode() in part.read_bytes() for part in tmp_path.iterdir())
    run(store.forget(secret))
    assert not any(secret.encode() in part.read_bytes() for part in tmp_path.iterdir())
    run(store.close())


def test_a_full_queue_refuses_instead_of_growing(tmp_path, run):
    store = open_embedded(tmp_path / "store.sqlite", max_pending=5)
    blocker = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    async def flood() -> list[object]:
        waiting = [asyncio.ensure_future(store.append([row(f"e{number}")])) for number in range(20)]
        await asyncio.sleep(0.05)
        blocker.execute("ROLLBACK")
        return await asyncio.gather(*waiting, return_exceptions=True)

    results = run(flood())
    refused = [result for result in results if isinstance(result, StoreUnavailable)]
    assert refused
    assert "RECSYS_MAX_PENDING_WRITES" in str(refused[0])
    assert len(run(store.events("u", 100))) == len(results) - len(refused)
    run(store.close())
    blocker.close()


def test_a_store_locked_for_too_long_answers_unavailable_and_recovers(tmp_path, run):
    store = open_embedded(tmp_path / "store.sqlite", busy_timeout_s=0.05)
    blocker = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        run(store.append([row("a")]))
    assert run(store.newest("u", 10)) == []  # readers are not held up
    blocker.execute("ROLLBACK")
    assert run(store.append([row("a")])) == 1
    run(store.close())
    blocker.close()


def test_an_impression_waits_for_another_writer_without_holding_up_the_loop(tmp_path, run):
    store = open_embedded(tmp_path / "store.sqlite")
    blocker = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    async def record_while_locked() -> int:
        await store.record(line("r1"))
        turns = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            turns += bool(store._flushing)
        blocker.execute("ROLLBACK")
        await store.settled()
        return turns

    assert run(record_while_locked()) == 20
    assert run(store.impression("r1")) == line("r1")
    run(store.close())
    blocker.close()


def test_the_write_ahead_log_of_impressions_alone_is_copied_back(tmp_path, run, monkeypatch):
    monkeypatch.setattr("serving.sqlite_backend.CHECKPOINT_PAGES", 50)
    store = open_embedded(tmp_path / "store.sqlite")
    for number in range(1_000):
        run(store.record(line(f"r{number}")))
    run(store.settled())  # the lines that took the writer's way may wait for its thread
    assert (tmp_path / "store.sqlite-wal").stat().st_size < 1_000 * 4_096
    assert all(run(store.impression(f"r{number}")) is not None for number in range(1_000))
    run(store.close())


def test_a_store_of_before_there_were_migrations_is_brought_up_to_date(tmp_path, run):
    """As the program of before left it: PRAGMA user_version 2, no alembic_version, the old view and columns."""
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_STORE)
    store = open_embedded(path)
    assert [event.item_id for event in run(store.events("u", 9))] == ["i1"]
    assert run(store.attributes("u")) == {"country": "UK"}
    old = run(store.impression("r0"))
    assert (old.item_ids, old.propensities, old.candidates) == (("i2",), (0.5,), 2)
    assert (old.scenario, old.variant, old.ask.revision) == (None, None, 0)
    run(store.record(line("r1")))
    run(store.close())
    with closing(sqlite3.connect(path)) as connection:
        kinds = connection.execute("SELECT event_type, count(*) FROM logged_events GROUP BY 1").fetchall()
    assert kinds == [("click", 1), ("impression", 3)]


def test_a_store_of_a_later_program_or_no_store_at_all_is_refused_in_one_line(tmp_path, run):
    other = tmp_path / "other.sqlite"
    run(open_embedded(other).close())
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UserError, match=f"store of revision 9999, this program reads up to {LIVE_REVISION}"):
        open_embedded(other)
    text = tmp_path / "notes.txt"
    text.write_text("not a database " * 100)
    with pytest.raises(UserError, match="set RECSYS_STORE"):
        open_embedded(text)
    with pytest.raises(UserError, match="set RECSYS_STORE"):
        open_embedded(text / "below" / "store.sqlite")


def _write_as_a_process(path: Path, writer: int, count: int) -> None:
    async def main() -> None:
        store = open_embedded(path)
        for number in range(count):
            shared = row(f"shared-{number}", user="shared")
            await store.append([row(f"{writer}-{number}", user=f"u{writer}"), shared])
        await store.close()

    asyncio.run(main())


def test_processes_that_start_and_write_at_once_lose_and_double_nothing(tmp_path, run):
    path = tmp_path / "store.sqlite"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_as_a_process, args=(path, writer, 40)) for writer in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(30)
        assert process.exitcode == 0
    store = open_embedded(path)
    assert [len(run(store.events(f"u{writer}", 100))) for writer in range(3)] == [40, 40, 40]
    assert len(run(store.events("shared", 100))) == 40
    run(store.close())


def test_a_full_disk_is_told_loses_nothing_that_was_accepted_and_is_overcome(tmp_path, run):
    store = open_embedded(tmp_path / "store.sqlite")
    assert run(store.append([row("before")])) == 1
    run(store.change_items([("i", {})]))  # the writer's connection is there
    connection = store._commits._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    many = [row(f"e{number}", item="x" * 200) for number in range(1_000)]
    with pytest.raises(StoreUnavailable, match="full"):
        run(store.append(many))
    assert [event.event_id for event in run(store.events("u", 10_000))] == ["before"]
    assert run(store.append(many)) == 1_000  # a connection made anew, and room again
    run(store.close())
