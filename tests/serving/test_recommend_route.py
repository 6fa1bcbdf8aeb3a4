"""What a caller of /v1/recommend may rely on."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from serving.engine import Ask, rank
from serving.event_log import replay
from tests.factories import write_tiny_bundle


def items(answer) -> list[str]:
    return [item["item_id"] for item in answer.json()["items"]]


def test_a_user_never_seen_gets_items_at_once(client):
    answer = client.post("/v1/recommend", json={"user": "nobody-yet", "n": 5})
    body = answer.json()
    assert answer.status_code == 200
    assert len(set(items(answer))) == 5
    assert body["support_events"] == 0
    assert body["served_by"] != "adapted"
    assert [item["position"] for item in body["items"]] == [0, 1, 2, 3, 4]
    assert set(body) == {
        "recommendation_id",
        "model",
        "variant",
        "policy",
        "seed",
        "served_by",
        "support_events",
        "took_ms",
        "items",
    }


def test_for_a_bundle_that_reads_impressions_the_list_before_is_known_until_it_is_answered(
    make_client, tmp_path
):
    folder = write_tiny_bundle(tmp_path / "reader")
    told = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(told | {"impressions": "actions"}))
    client = make_client(bundle=folder, store=tmp_path / "reader.sqlite")
    ask = {"user": "a", "n": 3, "session": "s"}
    first = client.post("/v1/recommend", json=ask).json()
    shown = [item["item_id"] for item in first["items"]]
    event = {"user": "a", "item_id": shown[1], "event_type": "click", "session": "s"}
    client.post("/v1/events", json=event | {"recommendation_id": first["recommendation_id"]})
    second = client.post("/v1/recommend", json=ask | {"n": 39}).json()
    assert (first["support_events"], second["support_events"]) == (
        0,
        3,
    )  # two were shown in vain, one was clicked
    line = client.run(client.service.store.impression(second["recommendation_id"]))
    assert [(each.item_id, each.event_type) for each in line.ask.events] == [
        (shown[0], "impression"),
        (shown[2], "impression"),
        (shown[1], "click"),
    ]
    assert {item["item_id"] for item in second["items"]} == {f"i{item}" for item in range(40)} - {shown[1]}


def test_an_event_changes_that_users_very_next_list_and_nobody_elses(client, click):
    ask = {"user": "a", "n": 5}
    seen = items(client.post("/v1/recommend", json=ask))[0]
    taken = client.post("/v1/events", json=click("a") | {"item_id": seen})
    assert taken.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    after = client.post("/v1/recommend", json=ask)
    assert after.json()["support_events"] == 1
    assert after.json()["served_by"] == "adapted"
    assert seen not in items(after)
    assert client.post("/v1/recommend", json={"user": "b"}).json()["support_events"] == 0


def test_seen_items_come_back_when_asked_for(client, click, recommender):
    everything = len(recommender.catalogue)
    client.post("/v1/events", json=[click("a", item) for item in range(3)])
    seen = set(recommender.catalogue.item_ids[:3])
    hidden = client.post("/v1/recommend", json={"user": "a", "n": min(everything, 200)})
    shown = client.post("/v1/recommend", json={"user": "a", "n": min(everything, 200), "exclude_seen": False})
    assert not seen & set(items(hidden))
    assert seen <= set(items(shown))
    assert len(items(hidden)) == len(items(shown)) - 3


def test_excluded_items_are_not_shown_and_unknown_ids_do_not_matter(client):
    first = items(client.post("/v1/recommend", json={"user": "a", "n": 5}))
    answer = client.post("/v1/recommend", json={"user": "a", "n": 5, "exclude": [*first, "no such item"]})
    assert not set(first) & set(items(answer))


def test_the_link_answers_as_the_post_does(client, click):
    client.post("/v1/events", json=click("a/b c", 2))
    answer = client.get("/v1/recommend/a%2Fb%20c", params={"n": 4})
    assert answer.status_code == 200
    assert len(items(answer)) == 4
    assert answer.json()["support_events"] == 1


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"user": "a", "n": 0}, 422, "n is 0: must be at least 1; send a larger number"),
        ({"user": "a", "n": 201}, 422, "n is 201: must be at most 200; ask for fewer, or raise RECSYS_MAX_N"),
        ({"user": "a", "n": "5"}, 422, "n is '5': must be a whole number; send one without quotes"),
        ({"user": ""}, 422, "user is ''"),
        ({"user": "a\n"}, 422, "user is 'a\\n': must hold no control characters; remove them"),
        ({"user": 5}, 422, "user is 5: must be text; send it in quotes"),
        ({"user": "a", "size": 5}, 422, "size is not a field of this request; remove it"),
        ({"user": "a", "exclude": ["x"] * 1001}, 422, "exclude holds 1001 ids: must be at most 1000"),
        ([], 422, "the body is []: must be an object; send {...}"),
        ({"user": "a", "exclude": "x"}, 422, "exclude is 'x': must be an array; send [...]"),
        ({"user": "a", "exclude": ["x", 5]}, 422, "exclude.1 is 5: must be text; send it in quotes"),
        ({"user": "a", "exclude_seen": 1}, 422, "exclude_seen is 1: must be true or false; send one of them"),
        ({"user": "a", "attributes": []}, 422, "attributes is []: must be an object; send {...}"),
        ({"user": "a", "attributes": {"body": 5}}, 422, "attributes.body is 5: must be text"),
        ({"user": "a", "attributes": {"": "x"}}, 422, "a name in attributes is '': must have at least 1"),
        (
            {"user": "a", "attributes": {str(n): "x" for n in range(65)}},
            422,
            "must hold at most 64; send fewer",
        ),
    ],
)
def test_a_bad_request_names_value_bound_and_remedy(client, body, status, says):
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"]["code"] == "invalid_request"
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"user=a", b'{"user": "\xff"}', b'{"user": "\\ud800"}'])
def test_a_body_that_is_not_json_is_told_so(client, body):
    answer = client.post("/v1/recommend", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_json"


@pytest.mark.parametrize("query", ["n=0", "n=x", "n=201", "exclude_seen=perhaps"])
def test_a_bad_link_is_refused_in_the_same_shape(client, query):
    answer = client.get(f"/v1/recommend/a?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"
    name, value = query.split("=")
    message = answer.json()["error"]["message"]
    assert message.startswith(f"{name} is ")
    assert value in message
    assert ": must be " in message
    assert "; " in message


@pytest.mark.parametrize(
    ("link", "says"),
    [
        (
            "/v1/recommend/a?n=3&catagory=garden",
            "'catagory' is not a parameter of /v1/recommend/{user}: it takes n, exclude_seen, scenario, category, "
            "explain; correct the spelling or leave it out",
        ),
        (
            "/v1/recommend/next/r?m=3",
            "'m' is not a parameter of /v1/recommend/next/{recommendation_id}: it takes n;",
        ),
        ("/v1/users/a/events?n=2", "'n' is not a parameter of /v1/users/{user}/events: it takes limit;"),
        ("/v1/items/i1/similar?limit=2", "it takes n, category;"),
        ("/v1/items/i1?n=2", "it takes none;"),
        ("/v1/onboarding?count=2", "it takes n, user;"),
        ("/v1/export?form=parquet", "it takes format, table;"),
        ("/v1/models?all=1", "it takes none;"),
        ("/v1/experiments?all=1", "it takes none;"),
    ],
)
def test_a_parameter_that_a_link_does_not_take_is_refused_with_those_that_it_takes(client, link, says):
    answer = client.get(link)
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]


def test_a_probe_may_name_any_parameter(client):
    assert client.get("/readyz?verbose=1").status_code == 200


def test_propensities_are_those_of_drawing_without_replacement_by_softmax(client, recommender, click):
    """Enumerate: the candidates' scores give the probability of each item after those above it."""
    events = [click("a", item, timestamp=1_000.0 + item, session="s") for item in range(4)]
    client.post("/v1/events", json=events)
    body = client.post("/v1/recommend", json={"user": "a", "n": 8}).json()
    line = client.run(client.service.store.impression(body["recommendation_id"]))
    temperature = float(re.fullmatch(r"plackett_luce\(temperature=(.+)\)", body["policy"]).group(1))
    everything = rank(recommender, replace(line.ask, n=len(recommender.catalogue)))
    score = dict(
        zip(recommender.catalogue.ids(everything.items), everything.scores.astype(float), strict=True)
    )
    again = replay(recommender, line)  # the line says how many candidates there were, replaying it says which
    assert len(again.candidates) == line.candidates
    left = {item_id: score[item_id] / temperature for item_id in recommender.catalogue.ids(again.candidates)}
    for item in body["items"]:
        assert item["score"] == pytest.approx(score[item["item_id"]], abs=1e-5)
        logits = np.array(list(left.values()))
        expected = np.exp(left.pop(item["item_id"]) - logits.max()) / np.exp(logits - logits.max()).sum()
        assert 0 < item["propensity"] <= 1
        assert item["propensity"] == pytest.approx(expected, rel=1e-4)


def test_lists_are_drawn_as_often_as_their_propensities_say(recommender):
    ask = {"user": "a", "session": None, "n": 1, "events": (), "attributes": {}, "exclude": ()}
    drawn = [rank(recommender, Ask(**ask, seed=seed, exclude_seen=True)) for seed in range(600)]
    claimed = {int(one.items[0]): float(one.propensities[0]) for one in drawn}
    for item, propensity in claimed.items():
        frequency = np.mean([int(one.items[0]) == item for one in drawn])
        assert abs(frequency - propensity) < 5 * np.sqrt(propensity * (1 - propensity) / 600) + 1 / 600


def test_attributes_and_session_are_accepted(client):
    body = {"user": "a", "session": "s-1", "attributes": {"country": "France"}}
    assert client.post("/v1/recommend", json=body).status_code == 200
