"""A deleted user does not come back from what another replica kept while it could not reach the database."""

import time

import pytest

from serving.forgotten import KEY_FACT, PREFIX, forgotten_at, mark_forgotten
from serving.spool import SpooledStore
from serving.sql_store import open_postgres_store, open_sqlite_store
from serving.store import EventRow
from tests.serving.databases import new_database
from tests.serving.store_samples import line


def row(event_id: str, user: str) -> EventRow:
    return EventRow(event_id, user, "s", time.time_ns() // 1_000, "i1", "click", None, None, None)


@pytest.fixture
def replicas(tmp_path, run):
    """Two replicas' stores on one database, neither carrying over by itself."""
    with new_database() as url:
        made = []

        async def opened(name: str) -> SpooledStore:
            file = open_sqlite_store(tmp_path / name, max_pending=100, busy_timeout_s=1, synced=False)
            database = open_postgres_store(url, max_pending=100, timeout_s=5, synced=False, readers=1)
            return SpooledStore(database, file)

        made = [run(opened(name)) for name in ("one.sqlite", "two.sqlite")]
        for store in made:
            run(store._carry_over())
        yield made
        for store in made:
            run(store.close())


def test_what_waited_elsewhere_is_dropped_and_what_came_after_is_kept(replicas, run):
    one, two = replicas
    run(two.file.append([row("before", "gone"), row("other", "stays")]))
    run(two.file.record(line("r1", user="gone")))
    run(two.file.settled())
    run(one.append([row("known", "gone")]))
    gone = run(one.forget("gone"))
    assert gone.events == 1
    assert set(gone.remaining.values()) == {0}
    run(two.file.append([row("after", "gone")]))
    run(two._carry_over())
    assert [each.event_id for each in run(one.events("gone", 10))] == ["after"]  # a user who has come back
    assert [each.event_id for each in run(one.events("stays", 10))] == ["other"]
    assert run(one.impression("r1")) is None


def test_a_mark_names_nobody_and_does_not_stay_for_ever(replicas, run):
    one, _ = replicas
    run(mark_forgotten(one.database, "somebody@example.org"))
    assert list(run(forgotten_at(one.database, ["somebody@example.org", "another"]))) == [
        "somebody@example.org"
    ]
    key = run(one.fact(KEY_FACT))
    run(one.database.put_fact(KEY_FACT, "another", anew=False))
    assert run(one.fact(KEY_FACT)) == key
    run(one.database.put_fact(f"{PREFIX}old", "1"))
    run(mark_forgotten(one.database, "b"))
    assert run(one.fact(f"{PREFIX}old")) is None
    assert set(run(forgotten_at(one.database, ["somebody@example.org"]))) == {"somebody@example.org"}
