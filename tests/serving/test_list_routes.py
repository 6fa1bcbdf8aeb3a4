"""Sessions, next lists, own candidates, filters, reasons, deadlines: what a caller of the other lists may rely on."""

import json
import time

import numpy as np
import pytest

from serving.event_log import replay
from serving.problems import StoreUnavailable


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def line_of(client, answer):
    return client.run(client.service.store.impression(answer.json()["recommendation_id"]))


def test_a_sessions_events_are_ranked_by_and_not_stored(client, click):
    stored = [click("known", item) for item in (3, 7)]
    client.post("/v1/events", json=stored)
    inline = [{"item_id": event["item_id"], "event_type": event["event_type"]} for event in stored]
    answer = client.post("/v1/session/recommend", json={"events": inline, "n": 38})
    assert answer.json()["support_events"] == 2
    assert answer.json()["served_by"] == "adapted"
    assert answer.json()["unknown"] == []
    assert not set(ids(answer)) & {event["item_id"] for event in stored}
    known = client.post("/v1/recommend", json={"user": "known", "n": 38})
    score = {item["item_id"]: item["score"] for item in known.json()["items"]}
    for item in answer.json()["items"]:
        assert item["score"] == pytest.approx(score[item["item_id"]], abs=1e-4)
    line = line_of(client, answer)
    assert line.ask.events == ()
    assert not line.events_kept
    with pytest.raises(ValueError, match="events came inline and were not"):
        replay(client.service.fleet.current, line)
    assert client.get(f"/v1/recommend/next/{line.recommendation_id}").status_code == 409


def test_scrolling_on_never_repeats_and_knows_what_was_done_since(client, click):
    first = client.post(
        "/v1/recommend", json={"user": "a", "n": 6, "filter": {"price": {"max": 8}}, "session": "s"}
    )
    seen, answer = ids(first), first
    client.post("/v1/events", json=click("a") | {"item_id": seen[0]})
    for _ in range(4):
        answer = client.get(f"/v1/recommend/next/{answer.json()['recommendation_id']}")
        assert answer.json()["support_events"] == 1
        assert not set(ids(answer)) & set(seen)
        seen += ids(answer)
    prices = client.service.fleet.current.catalogue
    assert all(prices.price[prices.index_of[item]] <= 8 for item in seen)
    line = line_of(client, answer)
    assert line.ask.session == "s"
    assert "previous" in line.notes
    assert client.get("/v1/recommend/next/nowhere").status_code == 404


def test_own_candidates_come_back_in_order_and_unknown_ones_apart(client, click):
    client.post("/v1/events", json=click("a", 5))
    answer = client.post("/v1/rank", json={"user": "a", "items": ["i5", {"item_id": "i9"}, "?", "i2", "i9"]})
    body = answer.json()
    assert set(ids(answer)) == {"i5", "i9", "i2"}
    assert body["unknown"] == ["?"]
    assert {item["source"] for item in body["items"]} == {"caller"}
    assert np.prod([item["propensity"] for item in body["items"]]) > 0
    assert body["items"][-1]["propensity"] == pytest.approx(1.0)
    again = replay(client.service.fleet.current, line_of(client, answer))
    assert client.service.fleet.current.catalogue.ids(again.items) == ids(answer)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"categories": {"any": ["group 1"]}}, lambda item: item % 3 == 1),
        ({"categories": ["group 1", "group 2"]}, lambda item: item % 3 > 0),
        ({"categories": {"all": ["group 1", "group 2"]}}, lambda item: False),
        ({"categories": {"none": ["group 0"]}, "include": ["i0", "i1", "i2"]}, lambda item: item in (1, 2)),
        ({"price": {"min": 9.9}}, lambda item: item == 39),
    ],
)
def test_a_narrow_filter_still_finds_everything_that_fits(client, wanted, fits):
    answer = client.post("/v1/recommend", json={"user": "a", "n": 40, "filter": wanted})
    assert set(ids(answer)) == {f"i{item}" for item in range(40) if fits(item)}


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"colour": "red"}, "filter.colour is not a field"),
        ({"price": {"min": 3, "max": 2}}, "price.min is 3.0, must not exceed price.max (2.0); swap them"),
        ({"categories": 3}, "filter.categories"),
    ],
)
def test_a_bad_filter_is_refused(client, wanted, says):
    answer = client.post("/v1/recommend", json={"user": "a", "filter": wanted})
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]


def test_a_variant_where_no_experiment_runs_is_told_so(client):
    answer = client.post("/v1/recommend", json={"user": "a", "variant": "x"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "variant is 'x': no experiment runs; leave it out"


def test_reasons_come_where_they_are_asked_for(client, click):
    client.post("/v1/events", json=[click("a", item) for item in (1, 2)])
    told = client.post("/v1/recommend", json={"user": "a", "explain": True}).json()["items"]
    assert all(item["reasons"] for item in told)
    assert all(
        "reasons" not in item for item in client.post("/v1/recommend", json={"user": "a"}).json()["items"]
    )


def test_nobody_in_particular_gets_a_list_too_and_context_is_kept(client):
    answer = client.post(
        "/v1/recommend",
        json={"n": 3, "scenario": "home", "context": {"country": "France", "device": "phone"}},
    )
    line = line_of(client, answer)
    assert (line.ask.user, line.scenario) == ("", "home")
    assert line.ask.attributes == {"country": "France"}  # what the bundle knows
    assert line.notes["context"] == {"country": "France", "device": "phone"}


@pytest.mark.parametrize(
    ("cost", "rung"), [({"adapted": 9.0}, "unadapted"), ({"adapted": 9.0, "unadapted": 9.0}, "popular")]
)
def test_a_rung_that_would_miss_the_deadline_is_left_out_and_tried_again_later(client, click, cost, rung):
    client.post("/v1/events", json=click("a"))
    for name, seconds in cost.items():
        client.service.costs._seconds[name] = seconds
    answer = client.post("/v1/recommend", json={"user": "a", "deadline_ms": 50})
    assert answer.json()["served_by"] == rung
    assert 'recsys_fallbacks_total{reason="adapted_too_late"} 1.0' in client.get("/metrics").text
    served = {
        client.post("/v1/recommend", json={"user": "a", "deadline_ms": 50}).json()["served_by"]
        for _ in range(400)
    }
    assert "adapted" in served


def test_the_line_replays_after_the_catalogue_has_moved_on(client, click, bundle):
    from recsys.recommender import load_recommender

    client.put("/v1/items/new", json={"title": "Item 3", "categories": ["group 0"]})
    client.post("/v1/events", json=[click("a", 2), click("a") | {"item_id": "new"}])
    answer = client.post("/v1/recommend", json={"user": "a", "n": 12, "filter": {"categories": ["group 0"]}})
    line = line_of(client, answer)
    client.patch(f"/v1/items/{ids(answer)[0]}", json={"available": False})
    client.put("/v1/items/newer", json={"title": "Item 6", "categories": ["group 0"]})
    with pytest.raises(ValueError, match="from the catalogue at revision 1, not 3"):
        replay(client.service.fleet.current, line)
    fresh = load_recommender(bundle)
    for change in client.run(client.service.store.item_changes(0)):
        if change.revision <= line.ask.revision:
            fresh.change(*change, fresh.likeness(change.item_id, change.fields))
    again = replay(fresh, line)
    assert fresh.catalogue.ids(again.items) == ids(answer)
    np.testing.assert_array_equal(
        again.propensities, np.float32([item["propensity"] for item in answer.json()["items"]])
    )


def test_what_a_client_says_was_shown_stands_instead_of_the_servers_word(client):
    answer = client.post("/v1/recommend", json={"user": "a", "n": 5})
    body, shown = answer.json(), ids(answer)
    told = {
        "type": "impression",
        "user": "a",
        "recommendation_id": body["recommendation_id"],
        "event_id": "x",
    }
    told["items"] = [shown[2], shown[0]]
    assert client.post("/v1/events", json=told).json()["accepted"] == 1
    assert client.post("/v1/events", json=told).json()["duplicates"] == 1
    rows = [json.loads(row) for row in client.get("/v1/export").text.splitlines()]
    assert [(row["item_id"], row["position"]) for row in rows] == [(shown[2], 0), (shown[0], 1)]
    assert [row["propensity"] for row in rows] == [
        body["items"][2]["propensity"],
        body["items"][0]["propensity"],
    ]


def test_the_store_away_costs_an_embedded_server_its_answers_only_as_long(client, monkeypatch):
    async def broken(*_args, **_options):
        raise StoreUnavailable("the store cannot be read")

    monkeypatch.setattr(client.service.store, "newest", broken)
    assert client.post("/v1/recommend", json={"user": "a"}).status_code == 503
    monkeypatch.undo()
    assert client.post("/v1/recommend", json={"user": "a"}).status_code == 200


def test_new_items_can_be_recommended_within_a_second_and_vanish_at_once(client):
    began = time.monotonic()
    assert client.put("/v1/items/n1", json={"title": "Item 5", "categories": ["fresh"]}).status_code == 200
    answer = client.post("/v1/recommend", json={"user": "a", "n": 5, "filter": {"categories": ["fresh"]}})
    assert ids(answer) == ["n1"]
    assert answer.json()["items"][0]["source"] == "added"
    assert time.monotonic() - began < 1.0
    assert "n1" in ids(client.post("/v1/recommend", json={"user": "a", "n": 41}))
    client.patch("/v1/items/n1", json={"available": False})
    assert "n1" not in ids(client.post("/v1/recommend", json={"user": "a", "n": 41}))
    assert client.get("/v1/items/n1").json()["available"] is False
    client.delete("/v1/items/n1")
    assert client.get("/v1/items/n1").status_code == 404
    assert client.patch("/v1/items/n1", json={"title": "x"}).status_code == 404


@pytest.mark.parametrize("price", [55.04, 123_456_789.01, 0.1, None])
def test_a_price_comes_back_as_it_was_sent(client, price):
    client.put("/v1/items/n1", json={"title": "Item 5", "price": price})
    assert client.get("/v1/items/n1").json()["price"] == price
    client.patch("/v1/items/n1", json={"title": "Item 6"})
    assert client.get("/v1/items/n1").json()["price"] == price
    fits = {"include": ["n1"], "price": {"min": price, "max": price}}
    assert price is None or ids(client.post("/v1/recommend", json={"filter": fits})) == ["n1"]


def test_a_price_of_the_bundle_is_told_without_the_noise_of_single_precision(client, recommender):
    told = client.get("/v1/items/i1").json()["price"]
    assert np.float32(told) == recommender.catalogue.price[1]
    assert len(str(told)) < len(str(float(recommender.catalogue.price[1])))


def test_items_come_many_at_once_and_bad_rows_cost_no_other(client):
    rows = [
        {"item_id": "a1", "title": "A"},
        {"title": "no id"},
        {"item_id": "a2", "price": -1},
        {"item_id": "a3"},
    ]
    answer = client.post("/v1/items", json=rows).json()
    assert (answer["accepted"], [row["index"] for row in answer["rejected"]]) == (2, [1, 2])
    lines = b'{"item_id":"b1"}\n{"item_id":\n{"item_id":"b2"}\n'
    answer = client.post("/v1/items", content=lines).json()
    assert (answer["accepted"], [row["index"] for row in answer["rejected"]]) == (2, [1])
    assert "error" not in answer
    refused = client.post("/v1/items", json=[{"title": "no id"}])
    assert refused.status_code == 422
    assert refused.json()["error"]["message"] == "no row was accepted; row 0: item_id is missing; send it"
    event = {"type": "item", "item_id": "c1", "title": "C"}
    person = {"type": "user", "user": "u", "attributes": {"country": "UK"}}
    assert client.post("/v1/events", json=[event, person]).json()["accepted"] == 2
    assert client.get("/v1/items/c1").json()["title"] == "C"
    assert client.get("/v1/users/u").json()["attributes"] == {"country": "UK"}


def test_events_come_one_a_line_too(client, click):
    lines = [json.dumps(click("a", item)) for item in range(3)]
    answer = client.post("/v1/events", content="\n".join([lines[0], "{", *lines[1:]]))
    assert answer.json()["accepted"] == 3
    assert [row["index"] for row in answer.json()["rejected"]] == [1]


def test_what_is_known_of_a_user_goes_into_the_next_list(client, click):
    client.post("/v1/events", json=click("a"))
    told = client.put("/v1/users/a", json={"attributes": {"country": "France"}})
    assert told.json() == {"user": "a", "attributes": {"country": "France"}, "events": 1}
    for more, known in (({}, "France"), ({"context": {"country": "UK"}}, "UK"), ({"attributes": {}}, None)):
        line = line_of(client, client.post("/v1/recommend", json={"user": "a", **more}))
        assert line.ask.attributes.get("country") == known
    assert client.put("/v1/users/a", json={"attributes": {"country": 3}}).status_code == 422


def test_a_merge_gives_the_visitors_events_to_the_user(client, click):
    client.post("/v1/events", json=[click("guest", 1), click("a", 2)])
    assert client.post("/v1/users/a/merge/guest").json()["events"] == 1
    assert client.post("/v1/recommend", json={"user": "a"}).json()["support_events"] == 2
    assert client.post("/v1/recommend", json={"user": "guest"}).json()["support_events"] == 0
    assert client.post("/v1/users/a/merge/a").status_code == 422


def test_similar_items_and_what_to_show_first(client, click):
    answer = client.get("/v1/items/i3/similar?n=4")
    assert len(answer.json()["items"]) == 4
    assert "i3" not in [item["item_id"] for item in answer.json()["items"]]
    assert client.get("/v1/items/nowhere/similar").status_code == 404
    first = client.get("/v1/onboarding?n=5").json()
    assert len(first["items"]) == 5
    client.post("/v1/events", json=click("a") | {"item_id": first["items"][0]["item_id"]})
    after = client.get("/v1/onboarding?n=5&user=a").json()
    assert after["support_events"] == 1
    assert first["items"][0] not in after["items"]


def test_the_export_is_the_event_table_in_both_forms(client, click):
    import io

    import pyarrow.parquet as pq

    answer = client.post("/v1/recommend", json={"user": "a", "n": 3}).json()
    client.post("/v1/events", json=click("a", recommendation_id=answer["recommendation_id"], position=0))
    rows = [json.loads(row) for row in client.get("/v1/export").text.splitlines()]
    file = pq.read_table(io.BytesIO(client.get("/v1/export?format=parquet").content)).to_pylist()
    assert len(rows) == len(file) == 4
    for row, other in zip(rows, file, strict=True):
        other["timestamp"] = round(other["timestamp"].timestamp() * 1e6)
        assert row == other
    shown = [row for row in rows if row["event_type"] == "impression"]
    assert [row["propensity"] for row in shown] == [item["propensity"] for item in answer["items"]]
    assert {row["policy_version"] for row in shown} == {f"{answer['model']} {answer['policy']}"}
