"""The battery every store must pass."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recsys.recommender import LoggedEvent
from serving.problems import StoreUnavailable
from serving.store import EventRow, Store
from tests.serving.store_samples import line, open_embedded, row


@pytest.fixture(params=["sqlite-full", "sqlite-normal"])
def reopen(
    request: pytest.FixtureRequest, tmp_path: Path, run: Callable[..., object]
) -> Iterator[Callable[[], Store]]:
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
