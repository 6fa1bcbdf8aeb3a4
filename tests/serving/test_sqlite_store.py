"""What is particular to the embedded store: files, locks, processes."""

import asyncio
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from recsys.errors import UserError
from serving.problems import StoreUnavailable
from tests.serving.store_samples import line, open_embedded, row


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
        recorded = asyncio.ensure_future(store.record(line("r1")))
        turns = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            turns += not recorded.done()
        blocker.execute("ROLLBACK")
        await recorded
        return turns

    assert run(record_while_locked()) == 20
    assert run(store.impression("r1")) == line("r1")
    run(store.close())
    blocker.close()


def test_the_write_ahead_log_of_impressions_alone_is_copied_back(tmp_path, run, monkeypatch):
    monkeypatch.setattr("serving.sqlite_store.CHECKPOINT_PAGES", 50)
    store = open_embedded(tmp_path / "store.sqlite")
    for number in range(1_000):
        run(store.record(line(f"r{number}")))
    assert (tmp_path / "store.sqlite-wal").stat().st_size < 1_000 * 4_096
    assert all(run(store.impression(f"r{number}")) is not None for number in range(1_000))
    run(store.close())


def test_a_store_of_the_version_before_is_brought_up_to_date(tmp_path, run):
    path = tmp_path / "store.sqlite"
    run(open_embedded(path).close())
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE users")
        connection.execute("PRAGMA user_version = 1")
    store = open_embedded(path)
    assert run(store.attributes("a")) == {}
    run(store.close())
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_store_of_another_version_or_no_store_at_all_is_refused_in_one_line(tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="store of version 99, this program reads up to 2"):
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
