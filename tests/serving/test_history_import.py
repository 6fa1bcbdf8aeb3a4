"""Warm users are known from the first request on, once."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import UserError
from recsys.logs.schema import EVENTS
from serving.history_import import import_history


def table(rows):
    start = datetime(2011, 1, 1, tzinfo=UTC)
    columns = {field.name: [None] * len(rows) for field in EVENTS}
    columns["event_id"] = [f"h{number}" for number in range(len(rows))]
    columns["session_id"] = ["s"] * len(rows)
    columns["event_type"] = [kind for *_, kind in rows]
    columns["user_id"] = [user for user, *_ in rows]
    columns["item_id"] = [item for _, item, *_ in rows]
    columns["timestamp"] = [start + timedelta(minutes=minute) for _, _, minute, _ in rows]
    return pa.table(columns, schema=EVENTS)


def kept(store):
    with sqlite3.connect(store) as connection:
        return connection.execute(
            "SELECT user_id, item_id FROM events ORDER BY user_id, timestamp, received_at"
        ).fetchall()


@pytest.fixture
def history(tmp_path):
    """Two parts; user a's events lie in both and out of order, one session is anonymous."""
    folder = tmp_path / "events"
    folder.mkdir()
    pq.write_table(
        table([("a", "i3", 3, "c"), ("b", "i0", 0, "c"), (None, "i9", 9, "c")]), folder / "part-0.parquet"
    )
    second = table([("a", "i1", 1, "c"), ("a", "i2", 2, "c"), ("a", "i2b", 2, "c")])
    ids = pa.array([f"g{number}" for number in range(3)])
    pq.write_table(second.set_column(0, EVENTS.field(0), ids), folder / "part-1.parquet")
    return folder


def test_the_newest_events_of_each_user_are_kept_in_order(history, tmp_path):
    store = tmp_path / "s.sqlite"
    assert import_history(store, history, per_user=3) == 4
    assert kept(store) == [("a", "i2"), ("a", "i2b"), ("a", "i3"), ("b", "i0")]


def test_for_a_bundle_that_reads_impressions_those_without_response_are_imported_besides(tmp_path):
    rows = [
        ("a", "i0", 0, "impression"),
        ("a", "i1", 1, "impression"),
        ("a", "i1", 2, "click"),
        ("a", "i1", 3, "click"),
        ("b", "i1", 4, "impression"),  # answered by nobody: the click is another user's
        ("a", "i2", 5, "impression"),
    ]
    shown = table(rows)
    named = pa.array(["r0", "r1", "r1", None, "r1", "r1"])  # r1 showed a i1 and i2, and i1 is answered
    place = shown.column_names.index("recommendation_id")
    pq.write_table(shown.set_column(place, EVENTS.field(place), named), tmp_path / "h.parquet")
    store = tmp_path / "s.sqlite"
    assert import_history(store, tmp_path / "h.parquet", per_user=2, impressions=True) == 5
    assert kept(store) == [("a", "i0"), ("a", "i1"), ("a", "i1"), ("a", "i2"), ("b", "i1")]
    assert import_history(tmp_path / "one", tmp_path / "h.parquet", per_user=1, impressions=True) == 3
    assert kept(tmp_path / "one") == [("a", "i1"), ("a", "i2"), ("b", "i1")]


def test_what_was_only_shown_is_not_imported(tmp_path):
    rows = [("a", "i1", 1, "click"), ("a", "i2", 2, "impression"), ("b", "i3", 3, "impression")]
    pq.write_table(table(rows), tmp_path / "h.parquet")
    assert import_history(tmp_path / "s.sqlite", tmp_path / "h.parquet", per_user=1) == 1
    assert kept(tmp_path / "s.sqlite") == [("a", "i1")]


def test_a_second_start_imports_nothing_even_after_deletions(history, tmp_path):
    store = tmp_path / "s.sqlite"
    import_history(store, history, per_user=10)
    with sqlite3.connect(store) as connection:
        connection.execute("DELETE FROM events")
    assert import_history(store, history, per_user=10) == 0
    assert import_history(store, tmp_path / "since removed", per_user=10) == 0
    assert kept(store) == []


def test_one_file_is_a_history_too_and_lacking_columns_are_null(history, tmp_path):
    pq.write_table(
        pq.read_table(history / "part-0.parquet").drop(["value", "position"]), tmp_path / "one.parquet"
    )
    assert import_history(tmp_path / "s.sqlite", tmp_path / "one.parquet", per_user=10) == 2


def known_of(store):
    with sqlite3.connect(store) as connection:
        return dict(connection.execute("SELECT user_id, attributes FROM users").fetchall())


def users_table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_what_the_log_knew_of_its_users_is_imported_with_their_events(history, tmp_path):
    """Text columns, as training reads them; from beside the history, or from another file if one is named."""
    columns = {"user_id": ["a", "b", "c"], "country": ["France", None, "UK"], "age": [30, 40, 50]}
    users_table(tmp_path / "users.parquet", **columns)
    import_history(tmp_path / "s.sqlite", history, per_user=10)
    assert known_of(tmp_path / "s.sqlite") == {"a": '{"country":"France"}', "c": '{"country":"UK"}'}
    other = users_table(tmp_path / "other.parquet", user_id=["a"], segment=["gold"])
    import_history(tmp_path / "t.sqlite", history, per_user=10, users=other)
    assert known_of(tmp_path / "t.sqlite") == {"a": '{"segment":"gold"}'}
    bare = users_table(tmp_path / "bare.parquet", user_id=["a"])
    import_history(tmp_path / "u.sqlite", history, per_user=10, users=bare)
    assert known_of(tmp_path / "u.sqlite") == {}


@pytest.mark.parametrize(("make", "says"), [("nothing", "no users at"), ("items", "lacks user_id")])
def test_a_file_that_is_no_user_table_is_refused_and_imports_nothing(history, tmp_path, make, says):
    path = tmp_path / "given.parquet"
    if make == "items":
        users_table(path, item_id=["x"])
    with pytest.raises(UserError, match=says):
        import_history(tmp_path / "s.sqlite", history, per_user=10, users=path)
    assert kept(tmp_path / "s.sqlite") == []


def test_a_warm_user_is_served_with_the_attributes_of_the_log(make_client, recommender, tmp_path):
    ids, kind = recommender.catalogue.item_ids, recommender.event_types[-1]
    pq.write_table(table([("warm", ids[0], 0, kind)]), tmp_path / "h.parquet")
    users_table(tmp_path / "users.parquet", user_id=["warm", "w2"], country=["France", "UK"])
    client = make_client(history=tmp_path / "h.parquet")
    while client.get("/readyz").status_code == 503:
        pass

    def asked_with(**request):
        answer = client.post("/v1/recommend", json={"user": "warm", "n": 40, **request}).json()
        line = client.run(client.service.store.impression(answer["recommendation_id"]))
        return line.ask.attributes, max(item["score"] for item in answer["items"])

    france, score = asked_with()
    assert france == {"country": "France"}
    assert asked_with(attributes=None) == (france, score)
    assert asked_with(attributes={}) != (france, score)
    assert asked_with(attributes={}) == ({}, asked_with(attributes={"country": "Atlantis"})[1])
    assert asked_with(attributes={"country": "UK"})[0] == {"country": "UK"}
    assert asked_with() == (france, score)  # what a request says is not kept
    assert client.get("/v1/users/warm/events").json()["attributes"] == france
    client.delete("/v1/users/warm")
    assert asked_with()[0] == {}
    assert client.get("/v1/users/warm/events").json()["attributes"] == {}
    assert client.get("/v1/users/w2/events").json()["attributes"] == {"country": "UK"}


def test_a_store_with_events_is_left_alone(client, click, history, tmp_path):
    client.post("/v1/events", json=click("a"))
    assert import_history(tmp_path / "store.sqlite", history, per_user=10) == 0


def test_a_failed_import_leaves_nothing_behind(history, tmp_path):
    (history / "part-2.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"part-2\.parquet is not Parquet"):
        import_history(tmp_path / "s.sqlite", history, per_user=10)
    assert kept(tmp_path / "s.sqlite") == []
    (history / "part-2.parquet").unlink()
    assert import_history(tmp_path / "s.sqlite", history, per_user=10) == 5


@pytest.mark.parametrize(("make", "says"), [("nothing", "no events at"), ("items", "lacks event_id")])
def test_a_path_without_events_is_refused_in_one_line(tmp_path, make, says):
    path = tmp_path / f"{make}.parquet"
    if make == "items":
        pq.write_table(pa.table({"item_id": ["x"], "user_id": ["u"]}), path)
    with pytest.raises(UserError, match=says):
        import_history(tmp_path / "s.sqlite", path, per_user=10)


def test_the_endpoint_is_ready_once_warm_users_are_in(make_client, recommender, tmp_path):
    ids, kind = recommender.catalogue.item_ids, recommender.event_types[-1]
    pq.write_table(table([("warm", ids[0], 0, kind), ("warm", ids[1], 1, kind)]), tmp_path / "h.parquet")
    client = make_client(history=tmp_path / "h.parquet")
    waiting = client.get("/readyz")
    while waiting.status_code == 503:
        assert "waiting for the import of RECSYS_HISTORY" in waiting.json()["error"]["message"]
        assert client.post("/v1/recommend", json={"user": "warm"}).json().get("support_events", 2) == 2
        waiting = client.get("/readyz")
    assert client.post("/v1/recommend", json={"user": "warm"}).json()["support_events"] == 2


def test_an_import_that_fails_is_named_by_readyz(make_client, tmp_path):
    client = make_client(history=tmp_path / "missing.parquet")
    message = ""
    for _ in range(200):
        message = client.get("/readyz").json()["error"]["message"]
        if "no events at" in message:
            break
    assert "set RECSYS_HISTORY to a Parquet file" in message
