"""What a caller of /v1/events and /v1/users may rely on."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.artifacts.bundle import load_bundle
from recsys.config import RewardConfig
from recsys.recommender import Recommender
from serving.intake import judge


def stored(client, user):
    return client.get(f"/v1/users/{user}/events").json()["events"]


def test_a_retried_event_is_kept_once(client, click):
    event = click("a", event_id="order-1")
    assert client.post("/v1/events", json=event).json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert client.post("/v1/events", json=event).json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    twice = [click("a", 1, event_id="order-2"), click("a", 2, event_id="order-2")]
    assert client.post("/v1/events", json=twice).json() == {"accepted": 1, "duplicates": 1, "rejected": []}
    assert [event["event_id"] for event in stored(client, "a")] == ["order-2", "order-1"]


def test_bad_rows_are_named_and_cost_the_good_ones_nothing(client, click):
    batch = [
        click("a", 0),
        click("a") | {"item_id": "no such item"},
        "not an event",
        click("a", 1),
        click("a") | {"event_type": "sneeze"},
        {"user": "a"},
        click("a", timestamp=time.time() + 3600),
        click("a", value="much"),
        click("a", position=-1),
        click("a", colour="red"),
        click("a") | {"event_type": "impression"},
    ]
    answer = client.post("/v1/events", json=batch)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    errors = {row["index"]: row["error"] for row in answer.json()["rejected"]}
    assert sorted(errors) == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert errors[1].startswith("item_id is 'no such item': not in the catalogue of ")
    assert "send an id of its item table, or put the item first (PUT /v1/items/{item_id})" in errors[1]
    assert "event_type is 'sneeze': not one of " in errors[4]
    assert errors[5] == "item_id and event_type are missing; send them"
    assert "more than 300 s after now" in errors[6]
    assert "value is 'much'" in errors[7]
    assert "position is -1: must be at least 0; send a larger number" in errors[8]
    assert "colour is not a field" in errors[9]
    assert (
        "what is shown is logged when it is served; name the recommendation_id to say otherwise" in errors[10]
    )
    assert len(stored(client, "a")) == 2


@pytest.mark.parametrize("many", [False, True])
def test_if_every_row_is_bad_nothing_was_accepted_and_the_status_says_so(client, click, many):
    bad = click("a") | {"item_id": "?"}
    answer = client.post("/v1/events", json=[bad, bad] if many else bad)
    assert answer.status_code == 422
    assert answer.json()["accepted"] == 0
    assert [row["index"] for row in answer.json()["rejected"]] == ([0, 1] if many else [0])
    assert answer.json()["error"] == {
        "code": "invalid_request",
        "message": f"no row was accepted; row 0: {answer.json()['rejected'][0]['error']}",
    }


def test_a_type_whose_reward_hangs_on_the_value_needs_one(bundle, click):
    loaded = load_bundle(bundle)
    reward = RewardConfig(base={"purchase": -1.6, "click": 0.2}, per_log_value={"purchase": 1.45})
    rated = Recommender(replace(loaded, info=replace(loaded.info, reward=reward)))
    rows = [
        click("a", value=5.0),
        click("a"),
        click("a", value=None),
        click("a", value=0.0),
        click("a") | {"event_type": "click"},
    ]
    judged = judge(rows, rated, now_us=10**15, max_clock_skew_s=300)
    assert [event.value for event in judged.admitted] == [5.0, 0.0, None]
    assert [index for index, _ in judged.rejected] == [1, 2]
    for _, error in judged.rejected:
        assert error.startswith("value is missing: what an event of type 'purchase' is worth depends on it")
        assert "give value" in error


def test_an_empty_batch_is_no_error(client):
    answer = client.post("/v1/events", json=[])
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "duplicates": 0, "rejected": []})


@pytest.mark.parametrize(
    ("timestamp", "kept"),
    [
        (1_000.25, "1970-01-01T00:16:40.250000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00.000001+02:00", "2026-01-31T10:00:00.000001+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_times_are_kept_to_the_microsecond(client, click, timestamp, kept):
    client.post("/v1/events", json=click("a", timestamp=timestamp))
    assert stored(client, "a")[0]["timestamp"] == kept


@pytest.mark.parametrize(
    "timestamp",
    ["yesterday", "1969-12-31T23:59:59Z", "9999-01-01", "0001-01-01T00:00:00+23:59", -1, 1e18, 1e300, True],
)
def test_impossible_times_are_refused(client, click, timestamp):
    answer = client.post("/v1/events", json=click("a", timestamp=timestamp))
    assert answer.status_code == 422
    error = answer.json()["rejected"][0]["error"]
    assert error.startswith(f"timestamp is {timestamp!r}: ")
    assert error.count("timestamp") == 1
    assert "; send" in error


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (
            "timestamp",
            -1e300,
            "timestamp is -1e+300: must be seconds (not milliseconds) since 1970 from 0 to ",
        ),
        ("timestamp", 1769860800000, "timestamp is 1769860800000: must be seconds (not milliseconds)"),
        ("timestamp", [1], "timestamp is [1]: must be seconds (not milliseconds) since 1970"),
        ("value", "5", "value is '5': must be a number; send one without quotes"),
        ("value", True, "value is True: must be a number; send one"),
        ("position", 2**31, "position is 2147483648: must be at most 2147483647; send a smaller number"),
        ("position", 0.5, "position is 0.5: must be a whole number; send one"),
        ("user", "", "user is '': must have at least 1 character; send a longer text"),
        ("user", None, "user is None: must be text; send it in quotes"),
        ("session", "x" * 257, "must have at most 256 characters; send a shorter text"),
        ("event_id", "a\x00", "must hold no control characters; remove them"),
    ],
)
def test_a_refusal_names_the_field_once_the_value_the_bound_and_the_remedy(client, click, field, value, says):
    answer = client.post("/v1/events", json=click("a") | {field: value})
    assert answer.status_code == 422
    (rejected,) = answer.json()["rejected"]
    assert says in rejected["error"]
    assert rejected["error"].count(field) == 1
    assert ";" in rejected["error"]
    assert not any(word in rejected["error"] for word in ("Input", "constrained", ".str", "valid"))


def test_late_events_take_their_place_in_time(client, click):
    for item, at in ((0, 300), (1, 100), (2, 200), (3, 200)):
        client.post("/v1/events", json=click("a", item, timestamp=at, event_id=f"e{item}"))
    assert [event["event_id"] for event in stored(client, "a")] == ["e0", "e3", "e2", "e1"]


def test_every_field_is_kept(client, click):
    event = click(
        "a", 3, event_id="e", session="s", value=2.5, recommendation_id="r", position=4, timestamp=5
    )
    client.post("/v1/events", json=event)
    expected = event | {"timestamp": "1970-01-01T00:00:05+00:00"}
    assert stored(client, "a") == [{key: expected[key] for key in stored(client, "a")[0]}]


def test_a_body_beyond_the_limit_is_refused_with_413(make_client, click):
    client = make_client(max_body_bytes=1_000, max_events_per_batch=3)
    for path in ("/v1/events", "/v1/recommend"):
        answer = client.post(path, content=b"[" + b" " * 1_000 + b"]")
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert "RECSYS_MAX_BODY_BYTES" in answer.json()["error"]["message"]
    answer = client.post("/v1/events", json=[click("a")] * 4)
    assert answer.status_code == 413
    assert "the batch holds 4 events, at most 3" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[", b'{"user": NaN}', b"\xff"])
def test_a_batch_that_is_not_json_is_told_so(client, body):
    answer = client.post("/v1/events", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_json"


@pytest.mark.parametrize(
    ("lines", "kept", "bad"),
    [
        (
            ["{event}", "[1] garbage", "{event}"],
            2,
            {
                1: "line 2 is not JSON: unexpected content after document (column 5); send one JSON object a line"
            },
        ),
        (["garbage", "", "{event}"], 1, {0: "line 1 is not JSON: "}),
        (["[", "{event}"], 1, {0: "line 1 is not JSON: "}),
        (
            ["", "5", '{{"user": ', "{event}"],
            1,
            {0: "the body is 5: must be an object", 1: "line 3 is not JSON: "},
        ),
        (["garbage"], 0, {0: "line 1 is not JSON: "}),
        ([""], 0, {}),
    ],
)
def test_a_broken_line_is_named_and_costs_no_other(client, click, lines, kept, bad):
    content = "\n".join(lines).replace("{event}", json.dumps(click("a"))).replace("{{", "{")
    declared = {"content-type": "application/x-ndjson; charset=utf-8"}
    answer = client.post("/v1/events", content=content, headers=declared)
    assert answer.status_code == (422 if bad and not kept else 202)
    assert answer.json()["accepted"] == kept == len(stored(client, "a"))
    errors = {row["index"]: row["error"] for row in answer.json()["rejected"]}
    assert set(errors) == set(bad)
    assert all(errors[index].startswith(says) for index, says in bad.items())
    assert all("; send " in error for error in errors.values())


def test_lines_are_known_as_such_by_an_object_among_them(client, click):
    event = json.dumps(click("a"))
    answer = client.post("/v1/events", content=f"garbage\n{event}\nnull")
    assert answer.json()["accepted"] == 1
    assert [row["index"] for row in answer.json()["rejected"]] == [0, 2]
    for whole in (f"[\n{event}\n{event}]", "garbage\nmore", event[:-1]):
        assert client.post("/v1/events", content=whole).status_code == 400


@pytest.mark.parametrize("body", ["5", "null", '"event"'])
def test_a_body_that_is_no_batch_is_told_so(client, body):
    answer = client.post("/v1/events", content=body)
    assert answer.status_code == 422
    assert "must be one event or an array of events" in answer.json()["error"]["message"]


def test_deleting_a_user_deletes_their_events_and_impressions_only(client, click):
    client.post("/v1/events", json=[click("a/b", 0), click("a/b", 1), click("c", 0)])
    shown = client.post("/v1/recommend", json={"user": "a/b"}).json()
    nothing = {"attributes": 0, "remaining": {"events": 0, "impressions": 0, "users": 0}}
    assert client.delete("/v1/users/a%2Fb").json() == {
        "user": "a/b",
        "events": 2,
        "impressions": 1,
        **nothing,
    }
    assert stored(client, "a/b") == []
    assert client.delete("/v1/users/a%2Fb").json() == {
        "user": "a/b",
        "events": 0,
        "impressions": 0,
        **nothing,
    }
    again = client.post("/v1/recommend", json={"user": "a/b"}).json()
    assert again["support_events"] == 0
    assert again["recommendation_id"] != shown["recommendation_id"]
    assert len(stored(client, "c")) == 1


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_fields = ("user", "item_id", "event_type", "event_id", "session", "value", "timestamp", "position")


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(_fields), _json) | _json, max_size=8),
    good=st.integers(0, 8),
)
def test_whatever_is_sent_each_row_is_judged_once_and_the_good_one_is_admitted(recommender, rows, good):
    event = {
        "user": "u",
        "item_id": recommender.catalogue.item_ids[0],
        "event_type": recommender.event_types[0],
    }
    place = min(good, len(rows))
    batch = [*rows[:place], event, *rows[place:]]
    judged = judge(batch, recommender, now_us=10**15, max_clock_skew_s=300)
    assert len(judged.admitted) + len(judged.rejected) == len(batch)
    assert place not in {index for index, _ in judged.rejected}
    assert all(error for _, error in judged.rejected)
