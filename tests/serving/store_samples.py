"""Rows, lines and stores for the tests of the live store."""

from pathlib import Path

from recsys.recommender import LoggedEvent
from serving.engine import Ask
from serving.event_log import Impression
from serving.sql_store import SqlStore, open_postgres_store, open_sqlite_store
from serving.store import EventRow


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
        17,
        scenario="home",
        variant="b",
        notes={"context": {"device": "phone"}},
    )


def open_embedded(path: Path, **options: object) -> SqlStore:
    return open_sqlite_store(path, **{"max_pending": 1_000, "busy_timeout_s": 10, "synced": True, **options})


def open_database(url: str, **options: object) -> SqlStore:
    return open_postgres_store(url, **{"max_pending": 1_000, "timeout_s": 5, "synced": True, **options})
