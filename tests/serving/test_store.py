"""The battery every store must pass, and what is particular to the embedded one."""

import asyncio
import multiprocessing
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recsys.errors import UserError
from recsys.recommender import LoggedEvent
from serving.engine import Ask
from serving.event_log import Impression
from serving.problems import StoreUnavailable
from serving.sqlite_store import SqliteStore, open_sqlite_store
from serving.store import EventRow, Store


def row(event_id: str, user: str = "u", at: int = 0, item: str = "i", **fields: object) -> EventRow:
    return EventRow(event_id, user, None, at * 1_000_000, item, "click", None, None, None)._replace(**fields)


def line(recommendation_id: str, user: str = "u") -> Impression:
    event = LoggedEvent("i1", "click", 0.1 + 0.2, 1234567.890123, None)
    ask = Ask(user, "s", 2, 2**53 - 1, (event,), {"country": "UK"}, ("i9",), True, rung="unadapted")
    return Impression(
        recommendation_id,
        5,
        ask,
        "v1",
        "greedy",
        "adapted",
        1,
        ("i2", "i3"),
        (0.1, 0.05),
        (1.0, 0.5),
        ("i2", "i3"),
    )


def open_embedded(path: Path, **options: object) -> SqliteStore:
    return open_sqlite_store(path, **{"max_pending": 1_000, "busy_timeout_s": 10, "synced": True, **options})


Run = Callable[..., object]


@pytest.fixture
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(params=["sqlite-full", "sqlite-normal"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, run: Run) -> Iterator[Callable[[], Store]]:
    """Open one and the same store, again and again."""
    opened: list[Store] = []

    def make() -> Store:
        opened.append(open_embedded(tmp_path / "store.sqlite", synced=request.param == "sqlite-full"))
        return opened[-1]

    yield make
    for store in opened:
        run(store.close())


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()


def test_the_first_event_of_an_id_wins(store, run):
    assert run(store.append([row("a", item="x"), row("b"), row("a", item="y")])) == 2
    assert run(store.append([row("a", item="z"), row("c")])) == 1
    assert {event.event_id: event.item_id for event in run(store.events("u", 10))} == {
        "a": "x",
        "b": "i",
        "c": "i",
    }


def test_the_newest_events_come_oldest_first_and_ties_in_order_of_arrival(store, run):
    run(store.append([row("a", at=3, item="3"), row("b", at=1, item="1"), row("c", at=2, item="2")]))
    run(store.append([row("d", at=2, item="2 later"), row("e", user="other", at=9)]))
    assert [event.item_id for event in run(store.newest("u", 10))] == ["1", "2", "2 later", "3"]
    assert [event.item_id for event in run(store.newest("u", 2))] == ["2 later", "3"]
    assert [event.event_id for event in run(store.events("u", 3))] == ["a", "d", "c"]
    assert run(store.newest("nobody", 10)) == []


def test_an_event_comes_back_as_it_went_in(store, run):
    full = EventRow("é\x00'", "ü", "s", 1_234_567_890_123_456, "商品", "click", -0.1, "r", 3)
    run(store.append([full]))
    assert run(store.events("ü", 1)) == [full]
    assert run(store.newest("ü", 1)) == [LoggedEvent("商品", "click", -0.1, 1_234_567_890.123456, "s")]


def test_an_impression_comes_back_as_it_went_in(store, run):
    run(store.record(line("r1")))
    assert run(store.impression("r1")) == line("r1")
    assert run(store.impression("r2")) is None


def test_what_was_accepted_is_there_after_a_restart(reopen, run):
    first = reopen()
    run(first.append([row(f"e{number}", at=number) for number in range(50)]))
    run(first.record(line("r1")))
    run(first.close())
    again = reopen()
    assert len(run(again.events("u", 100))) == 50
    assert run(again.append([row("e7")])) == 0
    assert run(again.impression("r1")) == line("r1")


def test_forgetting_removes_a_users_events_and_impressions_only(store, run):
    run(store.append([row("a"), row("b"), row("c", user="other")]))
    run(store.record(line("r1")))
    run(store.record(line("r2", user="other")))
    gone = run(store.forget("u"))
    assert (gone.events, gone.impressions) == (2, 1)
    assert run(store.newest("u", 10)) == []
    assert run(store.impression("r1")) is None
    assert len(run(store.newest("other", 10))) == 1
    assert run(store.impression("r2")) is not None


def test_closing_commits_what_was_waiting_and_then_refuses(reopen, run):
    store = reopen()

    async def flood() -> list[int]:
        waiting = [asyncio.ensure_future(store.append([row(f"e{number}")])) for number in range(300)]
        await asyncio.sleep(0)
        await store.close()
        return await asyncio.gather(*waiting)

    assert sum(run(flood())) == 300
    assert len(run(reopen().events("u", 1_000))) == 300
    with pytest.raises(StoreUnavailable, match="closing"):
        run(store.append([row("late")]))


def test_a_bad_write_costs_its_neighbours_in_the_same_commit_nothing(store, run):
    async def mixed() -> list[object]:
        bad = row("bad", item=None)  # an impossible row: the column refuses it
        writes = [store.append([row("a")]), store.append([bad]), store.append([row("b"), row("a")])]
        return await asyncio.gather(*writes, return_exceptions=True)

    first, failed, last = run(mixed())
    assert (first, last) == (1, 1)
    assert isinstance(failed, sqlite3.IntegrityError)
    assert {event.event_id for event in run(store.events("u", 10))} == {"a", "b"}


class StoreAgainstModel(RuleBasedStateMachine):
    """Any order of writes, deletions and restarts agrees with a plain dictionary."""

    users = st.sampled_from(["u", "v"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.store = open_embedded(Path(self.folder.name) / "s.sqlite", synced=False)
        self.kept: dict[str, EventRow] = {}
        self.order: list[str] = []

    @rule(user=users, batch=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=5))
    def append(self, user, batch):
        rows = [row(f"e{number}", user=user, at=at, item=f"{at}") for number, at in batch]
        fresh = {event.event_id: event for event in reversed(rows) if event.event_id not in self.kept}
        assert self.runner.run(self.store.append(rows)) == len(fresh)
        self.order += [event.event_id for event in dict.fromkeys(rows) if fresh.get(event.event_id) is event]
        self.order += [event_id for event_id in fresh if event_id not in self.order]
        self.kept |= fresh

    @rule(user=users)
    def forget(self, user):
        mine = [event_id for event_id, event in self.kept.items() if event.user_id == user]
        assert self.runner.run(self.store.forget(user)).events == len(mine)
        for event_id in mine:
            del self.kept[event_id]
            self.order.remove(event_id)

    @rule()
    def restart(self):
        self.runner.run(self.store.close())
        self.store = open_embedded(Path(self.folder.name) / "s.sqlite", synced=False)

    @invariant()
    def agrees(self):
        for user in ("u", "v"):
            mine = [self.kept[event_id] for event_id in self.order if self.kept[event_id].user_id == user]
            expected = sorted(
                mine, key=lambda event: event.timestamp_us
            )  # stable: ties stay in order of arrival
            assert [event.item_id for event in self.runner.run(self.store.newest(user, 100))] == [
                event.item_id for event in expected
            ]

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


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


def test_a_store_of_another_version_or_no_store_at_all_is_refused_in_one_line(tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="store of version 99, this is version 1"):
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
