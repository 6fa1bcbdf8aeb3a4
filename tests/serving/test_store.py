"""The battery every store must pass."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from recsys.logs.live_tables import LIVE_REVISION, METADATA
from recsys.recommender import LoggedEvent
from serving.migrating import revision_of
from serving.problems import StoreUnavailable
from serving.sql_store import SqlStore
from serving.sqlite_backend import SqliteBackend
from serving.statements import Statement
from serving.store import EventRow, Store
from tests.serving.databases import new_database
from tests.serving.store_samples import line, open_database, open_embedded, row


@pytest.fixture(params=["sqlite-full", "sqlite-normal", "postgresql"])
def reopen(
    request: pytest.FixtureRequest, tmp_path: Path, run: Callable[..., object]
) -> Iterator[Callable[[], SqlStore]]:
    """Open one and the same store, again and again."""
    opened: list[SqlStore] = []
    with ExitStack() as stack:
        url = stack.enter_context(new_database()) if request.param == "postgresql" else None

        def make() -> SqlStore:
            opened.append(
                open_embedded(tmp_path / "store.sqlite", synced=request.param == "sqlite-full")
                if url is None
                else open_database(url)
            )
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
    full = EventRow("é'%s?", "ü", "s", 1_234_567_890_123_456, "商品", "click", -0.1, "r", 3)
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
    assert gone.remaining == {"events": 0, "impressions": 0, "users": 0}
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
    assert isinstance(failed, sqlite3.IntegrityError | psycopg.IntegrityError)
    assert {event.event_id for event in run(store.events("u", 10))} == {"a", "b"}


def test_what_is_known_of_a_user_can_be_put_and_is_forgotten_with_them(store, run):
    assert run(store.attributes("u")) == {}
    run(store.put_user("u", {"country": "UK"}))
    run(store.put_user("u", {"country": "FR", "plan": "é"}))
    assert run(store.attributes("u")) == {"country": "FR", "plan": "é"}
    assert run(store.forget("u")).attributes == 1
    assert run(store.attributes("u")) == {}


def test_a_merge_moves_everything_and_the_users_own_attributes_win(store, run):
    run(store.append([row("a", at=1), row("b", user="guest", at=2), row("c", user="third", at=3)]))
    run(store.record(line("r1", user="guest")))
    run(store.put_user("guest", {"country": "UK", "device": "phone"}))
    run(store.put_user("u", {"country": "FR"}))
    moved = run(store.merge("u", "guest"))
    assert (moved.events, moved.impressions) == (1, 1)
    assert [event.event_id for event in run(store.events("u", 9))] == ["b", "a"]
    assert run(store.attributes("u")) == {"country": "FR", "device": "phone"}
    assert run(store.impression("r1")).ask.user == "u"
    assert run(store.newest("guest", 9)) == []
    assert run(store.attributes("guest")) == {}
    assert len(run(store.newest("third", 9))) == 1


def test_changes_of_the_catalogue_are_numbered_in_order(store, run):
    assert run(store.catalogue_revision()) == 0
    first = run(store.change_items([("i1", {"price": 1.5}), ("i2", {"title": "é"})]))
    assert first == 2

    async def both() -> list[int]:
        return await asyncio.gather(*(store.change_items([(f"x{n}", {})]) for n in range(20)))

    assert sorted(run(both())) == list(range(3, 23))
    assert run(store.item_changes(0, 2)) == [(1, "i1", {"price": 1.5}), (2, "i2", {"title": "é"})]
    assert [change.revision for change in run(store.item_changes(20))] == [21, 22]
    assert run(store.catalogue_revision()) == 22


def test_facts_are_replaced(store, run):
    assert run(store.fact("x")) is None
    run(store.put_fact("x", "1"))
    run(store.put_fact("x", "2"))
    assert run(store.fact("x")) == "2"


def test_an_export_holds_every_row_once_whatever_the_batch(store, run):
    run(store.append([row(f"e{number:03}", user=f"u{number % 7}", at=number) for number in range(53)]))
    for number in range(5):
        run(store.record(line(f"r{number}")))

    async def exported(what: str) -> list[str]:
        return [row[0] async for batch in store.export(what, 10) for row in batch]

    assert run(exported("events")) == [f"e{number:03}" for number in range(53)]
    assert run(exported("impressions")) == [f"r{number}" for number in range(5)]


def test_the_newest_lines_after_an_id_come_newest_first(store, run):
    async def check() -> None:
        for number in range(5):
            await store.record(line(f"r{number}"))
        await store.impression("r4")  # waits for the lines
        assert [found[0] for found in await store.recent("r1", 2)] == ["r4", "r3"]
        assert [found[0] for found in await store.recent("r1", 9)] == ["r4", "r3", "r2"]
        assert await store.recent("r4", 9) == []

    run(check())


def test_a_line_is_there_before_an_event_that_came_after_it(store, run):
    """The same queue in the same order: an accepted event never speaks of a list that was lost."""

    async def show_then_click() -> None:
        await store.record(line("r1"))
        await store.append([row("a", recommendation_id="r1")])

    run(show_then_click())
    rows = run(store.backend.read(store.backend.statements.impression, ("r1",)))
    assert len(rows) == 1


def test_the_view_shows_feedback_and_lists_alike_and_the_clients_word_instead_of_ours(store, run):
    run(store.record(line("r1")))
    run(store.record(line("r2")))
    clicked = row("c", item="i3", at=9, recommendation_id="r1", position=1)
    told = row("t", item="i3", at=9, event_type="impression", recommendation_id="r2", position=0)
    run(store.append([clicked, told]))
    names = "event_id, item_id, event_type, recommendation_id, position, propensity, policy_version"
    statement = Statement(f"SELECT {names} FROM logged_events ORDER BY event_id")
    assert run(store.backend.read(statement, ())) == [
        ("c", "i3", "click", "r1", 1, None, None),
        ("r1:0", "i2", "impression", "r1", 0, 1.0, "v1 greedy"),
        ("r1:1", "i3", "impression", "r1", 1, 0.5, "v1 greedy"),
        ("t", "i3", "impression", "r2", 0, 0.5, "v1 greedy"),
    ]


def test_the_migrations_make_the_tables_that_the_program_knows(reopen, tmp_path):
    store = reopen()
    backend = store.backend
    url = (
        f"sqlite:///{tmp_path / 'store.sqlite'}"
        if isinstance(backend, SqliteBackend)
        else make_url(backend._address).set(drivername="postgresql+psycopg")
    )
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert revision_of(connection) == LIVE_REVISION
        found = compare_metadata(MigrationContext.configure(connection), METADATA)
        assert [change for change in found if "alembic_version" not in str(change)] == []


class StoreAgainstModel(RuleBasedStateMachine):
    """Any order of writes, deletions and restarts agrees with a plain dictionary."""

    users = st.sampled_from(["u", "v"])

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.open = self.make()
        self.store = self.open()
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
        self.store = self.open()

    @rule(user=users, other=users)
    def merge(self, user, other):
        if user == other:
            return
        moved = [event_id for event_id, event in self.kept.items() if event.user_id == other]
        assert self.runner.run(self.store.merge(user, other)).events == len(moved)
        for event_id in moved:
            self.kept[event_id] = self.kept[event_id]._replace(user_id=user)

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
        self.stack.close()

    def make(self) -> Callable[[], SqlStore]:
        path = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "s.sqlite"
        return lambda: open_embedded(path, synced=False)


class PostgresAgainstModel(StoreAgainstModel):
    """The same, over the other engine."""

    def make(self) -> Callable[[], SqlStore]:
        url = self.stack.enter_context(new_database())
        return lambda: open_database(url)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestPostgresAgainstModel = PostgresAgainstModel.TestCase
TestPostgresAgainstModel.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
