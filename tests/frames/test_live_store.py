"""The live store as tables, from either engine: the same rows, and whose merit a response is."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from recsys.evaluation.replay.live_log import Connection
from recsys.frames.store import StoreTables, read_store, shown_items
from serving.sql_store import SqlStore
from tests.serving.databases import new_database
from tests.serving.store_samples import line, open_database, open_embedded, row


async def fill(store: SqlStore) -> None:
    """One list of i2 and i3 shown at 5 µs; a click on i2 that names it, and one on something never shown."""
    await store.record(line("r1"))
    await store.put_user("u", {"country": "UK"})
    await store.append([row("click", item="i2", at=3, recommendation_id="r1"), row("stray", item="i9", at=4)])
    await store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreTables]:
    connection: Connection
    if request.param == "sqlite":
        asyncio.run(fill(open_embedded(tmp_path / "store.sqlite")))
        with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection:
            yield read_store(connection)
        return
    with new_database() as url:
        asyncio.run(fill(open_database(url)))
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            yield read_store(connection)


def test_every_row_is_there_once_oldest_first(tables: StoreTables) -> None:
    events = tables.events.to_pandas()
    assert events["item_id"].to_list() == ["i2", "i3", "i2", "i9"]
    assert events["event_type"].to_list() == ["impression", "impression", "click", "click"]
    assert events["propensity"].to_list()[:2] == [1.0, 0.5]
    assert events["timestamp"].is_monotonic_increasing
    lists = tables.lists.to_pylist()
    assert [(one["recommendation_id"], one["model"], one["policy"], one["variant"]) for one in lists] == [
        ("r1", "v1", "greedy", "b")
    ]
    assert tables.attributes == {"u": {"country": "UK"}}


def test_a_response_is_the_merit_of_what_it_names(tables: StoreTables) -> None:
    shown = shown_items(tables).set_index("item_id")
    assert shown["responded"].to_dict() == {"i2": True, "i3": False}
    assert shown["reward"].to_dict() == pytest.approx({"i2": 0.2, "i3": 0.0})
    assert shown.loc["i2", ["model", "served_by", "scenario", "support_events"]].to_list() == [
        "v1", "adapted", "home", 1,
    ]  # fmt: skip


def test_a_response_that_comes_too_late_is_nobodys(tables: StoreTables) -> None:
    assert not shown_items(tables, window_s=1.0)["responded"].any()
