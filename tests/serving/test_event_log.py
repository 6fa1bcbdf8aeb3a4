"""The impression line is enough to answer its request again, and readable by offline code as events."""

import sqlite3
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from recsys.logs.live_tables import EVENT_COLUMNS, EVENTS_TABLE, LOGGED_EVENTS_VIEW, RECEIVED_AT
from recsys.logs.schema import EVENTS
from serving.event_log import replay


def ask_and_find(client, **request):
    answer = client.post("/v1/recommend", json=request).json()
    return answer, client.run(client.service.store.impression(answer["recommendation_id"]))


def test_a_request_is_replayed_from_its_line_alone(client, click, recommender):
    client.post(
        "/v1/events",
        json=[click("a", item, timestamp=60.5 * item, session=f"s{item // 2}") for item in range(5)],
    )
    answer, line = ask_and_find(
        client, user="a", n=7, exclude=[recommender.catalogue.item_ids[9]], attributes={"country": "UK"}
    )
    client.post("/v1/events", json=[click("a", item) for item in range(5, 9)])  # the user has moved on since
    again = replay(recommender, line)
    assert recommender.catalogue.ids(again.items) == [item["item_id"] for item in answer["items"]]
    np.testing.assert_array_equal(
        again.propensities, np.float32([item["propensity"] for item in answer["items"]])
    )
    np.testing.assert_array_equal(again.scores, np.float32([item["score"] for item in answer["items"]]))
    assert again.support_events == answer["support_events"] == 5


def test_the_line_says_what_the_answer_said(client, recommender):
    answer, line = ask_and_find(client, user="new", n=3, session="s-9")
    assert (line.model, line.policy, line.served_by) == (
        answer["model"],
        answer["policy"],
        answer["served_by"],
    )
    assert (line.ask.user, line.ask.session, line.ask.seed) == ("new", "s-9", answer["seed"])
    assert [*zip(line.item_ids, line.scores, line.propensities, strict=True)] == [
        (item["item_id"], item["score"], item["propensity"]) for item in answer["items"]
    ]
    assert set(line.item_ids) <= set(recommender.catalogue.item_ids)
    assert len(line.item_ids) <= line.candidates <= len(recommender.catalogue)


def test_a_line_of_another_bundle_is_not_replayed_in_silence(client, recommender):
    _, line = ask_and_find(client, user="a")
    with pytest.raises(ValueError, match=r"was served by v0, not .*; load that version"):
        replay(recommender, replace(line, model="v0"))


def test_requests_differ_in_seed_and_id(client):
    answers = [client.post("/v1/recommend", json={"user": "a"}).json() for _ in range(5)]
    assert len({answer["seed"] for answer in answers}) == 5
    assert len({answer["recommendation_id"] for answer in answers}) == 5
    assert all(0 <= answer["seed"] < 2**53 for answer in answers)


def test_the_live_tables_keep_every_column_of_the_event_schema():
    columns = EVENTS_TABLE.columns
    assert tuple(column.name for column in columns) == EVENT_COLUMNS == (*EVENTS.names, RECEIVED_AT)
    required = {column.name for column in columns if not column.nullable} - {RECEIVED_AT}
    declared = {field.name for field in EVENTS if not field.nullable}
    assert declared - required == {"session_id"}
    assert required - declared == {"user_id"}


def test_offline_code_reads_the_store_in_the_event_schema(client, click, tmp_path):
    answer, line = ask_and_find(client, user="a", n=3)
    shown = [item["item_id"] for item in answer["items"]]
    bought = click("a", recommendation_id=answer["recommendation_id"], position=1, session="s") | {
        "item_id": shown[1]
    }
    client.post("/v1/events", json=bought)
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        rows = connection.execute(
            f"SELECT * FROM {LOGGED_EVENTS_VIEW} ORDER BY position, event_type"
        ).fetchall()
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=EVENTS.names)
    nullable = pa.schema([field.with_nullable(True) for field in EVENTS])
    events = table.cast(nullable).to_pylist()
    impressions = [event for event in events if event["event_type"] == "impression"]
    assert [event["item_id"] for event in impressions] == shown
    assert [event["position"] for event in impressions] == [0, 1, 2]
    assert [event["propensity"] for event in impressions] == [item["propensity"] for item in answer["items"]]
    assert {event["policy_version"] for event in impressions} == {f"{line.model} {line.policy}"}
    (feedback,) = [event for event in events if event["event_type"] != "impression"]
    cause = impressions[feedback["position"]]
    assert (cause["recommendation_id"], cause["item_id"]) == (
        feedback["recommendation_id"],
        feedback["item_id"],
    )
    assert cause["timestamp"] <= feedback["timestamp"]
