"""The console's pages and what they ask for: headers, keys, previews that leave no trace, the live estimate."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from recsys.artifacts.registry import Registry
from serving.console.live_estimate import LiveEstimator
from serving.console.pages import PAGES
from serving.console.served_lists import chances, drawn_by
from serving.event_log import from_row
from serving.security import add_key
from tests.factories import write_tiny_bundle

HTML = {"accept": "text/html,*/*"}
STATIC = Path(__file__).parents[2] / "serving" / "console" / "static"


@pytest.mark.parametrize("path", PAGES)
def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(client, path):
    answer = client.get(path, headers=HTML)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://", answer.text)
    for asset in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', answer.text):
        assert client.get(asset).status_code == 200, asset


def test_scripts_and_styles_name_no_other_host_and_parse_no_markup():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function", text
        ), path.name


def test_programs_are_still_pointed_to_the_documentation(client):
    answer = client.get("/", headers={"accept": "*/*"})
    assert answer.json()["docs"] == "/docs"
    assert answer.headers["vary"] == "Accept"
    assert not [path for path in client.get("/openapi.json").json()["paths"] if "console" in path]


def test_switched_off_it_adds_nothing(make_client):
    off = make_client(console="off")
    for path in (
        "/console/users",
        "/console/operations",
        "/console/static/try.js",
        "/console/api/operations",
    ):
        assert off.get(path, headers=HTML).status_code == 404, path
    assert off.post("/console/api/preview", json={}).status_code == 404
    assert off.get("/", headers=HTML).json()["docs"] == "/docs"
    assert not [route for route in off.app.routes if "console" in getattr(route, "path", "")]


def test_a_preview_is_the_adapted_list_with_its_reasons_and_leaves_no_trace(client):
    empty = client.post("/console/api/preview", json={"n": 5}).json()
    assert (empty["support_events"], empty["doubt_left"], len(empty["questions"])) == (0, 1.0, 12)
    liked = client.post("/console/api/preview", json={"liked": ["i3", "i8"], "n": 5}).json()
    assert liked["support_events"] == 2
    assert 0 < liked["doubt_left"] < 1
    assert [item["score"] for item in liked["items"]] == sorted(
        (item["score"] for item in liked["items"]), reverse=True
    )
    assert not {"i3", "i8"} & {item["item_id"] for item in liked["items"] + liked["questions"]}
    told = liked["items"][0]
    assert {"base_score", "deviation", "prior_deviation", "pulls", "reasons", "title", "price"} <= set(told)
    assert all(
        pull["title"] and pull["item_id"] in ("i3", "i8") for item in liked["items"] for pull in item["pulls"]
    )
    assert client.run(client.service.store.recent("", 10)) == []


def test_a_user_is_previewed_from_the_store_without_a_line(client, click):
    client.post("/v1/events", json=[click("a", 3), click("a", 8, value=2.5)])
    answer = client.post("/console/api/preview", json={"user": "a", "n": 5}).json()
    assert [event["item_id"] for event in answer["history"]] == ["i8", "i3"]
    assert answer["history"][0]["value"] == 2.5
    assert answer["support_events"] == 2
    assert client.run(client.service.store.recent("", 10)) == []


@pytest.mark.parametrize(
    ("body", "named"),
    [({"n": 51}, "n is 51"), ({"likd": []}, "likd"), ({"liked": ["x"] * 101}, "liked")],
)
def test_a_preview_out_of_bounds_is_refused_by_name(client, body, named):
    answer = client.post("/console/api/preview", json=body)
    assert answer.status_code == 422
    assert named in answer.json()["error"]["message"]


def test_items_are_found_by_the_beginnings_of_their_words_or_their_id(client):
    def found(text: str) -> list[str]:
        return [
            item["item_id"] for item in client.get("/console/api/items", params={"q": text}).json()["items"]
        ]

    assert found("item 7") == ["i7"]
    assert found("tem") == []
    assert found("i9") == ["i9"]
    assert len(found("ITEM")) == 12
    client.put("/v1/items/new", json={"title": "Copper kettle"})
    assert found("kett") == ["new"]
    client.patch("/v1/items/new", json={"available": False})
    assert found("kett") == []


def test_with_keys_on_pages_are_open_and_what_they_show_is_not(make_client, tmp_path):
    keys = tmp_path / "keys.json"
    reader = add_key(keys, "reader", ("read",))
    admin = add_key(keys, "admin", ("read", "write", "admin"))
    client = make_client(auth="on", api_keys=keys)
    for path in PAGES:
        assert client.get(path, headers=HTML).status_code == 200
    assert client.post("/console/api/preview", json={}).status_code == 401
    assert client.get("/console/api/items?q=item").status_code == 401
    for path in ("/console/api/operations", "/console/api/estimate"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"x-api-key": reader}).status_code == 403
        assert client.get(path, headers={"x-api-key": admin}).status_code == 200
    assert client.post("/console/api/preview", json={}, headers={"x-api-key": reader}).status_code == 200


def test_operations_count_what_metrics_count(client, click):
    client.post("/v1/events", json=[click("a", event_id="e"), click("a", event_id="e"), {"user": "a"}])
    client.post("/v1/recommend", json={"user": "a"})
    client.post("/v1/recommend", json={"user": "nobody"})
    told = client.get("/console/api/operations").json()
    assert told["events"] == {"accepted": 1, "duplicate": 1, "rejected": 1}
    assert told["lists"] == {"adapted": 1, "unadapted": 1, "policy": 0, "popular": 0}
    assert told["cold"] == 1
    assert told["latency"][-1] == [None, 2]
    assert told["adaptation"][-1] == [None, 1]
    assert told["requests"]["200"] == 2
    assert told["active"] == told["told"][0]["version"]
    assert told["told"][0]["curve"] == []  # published without an evaluation


@pytest.fixture
def compared(make_client, tmp_path):
    registry = Registry(tmp_path / "registry")
    folders = [write_tiny_bundle(tmp_path / f"b{seed}", seed=seed) for seed in (0, 1)]
    one, two = [registry.publish(folder, "metaq") for folder in folders]
    registry.set_alias("metaq", "champion", one)
    client = make_client(bundle=None, registry=tmp_path / "registry", shadow_share=0.0)
    assert client.post(f"/v1/models/{two}/shadow").status_code == 200
    return client, one, two


def test_the_live_estimate_replays_the_champion_exactly_and_forgets_deleted_users(compared, click):
    client, one, two = compared
    for turn in range(110):
        user = f"u{turn % 40}"
        client.post("/v1/events", json=click(user, turn % 30))
        answer = client.post("/v1/recommend", json={"user": user, "n": 3}).json()
        if turn % 4 == 0:
            event = click(user, recommendation_id=answer["recommendation_id"], event_id=f"e{turn}")
            client.post("/v1/events", json={**event, "item_id": answer["items"][turn % 3]["item_id"]})
    client.post("/v1/session/recommend", json={"events": []})
    estimator = LiveEstimator()
    estimator.pause = 0.0
    client.run(estimator.advance(client.service))
    told = estimator.told
    assert told["versions"] == {"challenger": two, "champion": one}
    assert (told["lists"], told["users"], told["responses"], told["waiting"]) == (110, 40, 28, 0)
    assert sum(told["left_out"].values()) == 1
    again = next(g for g in told["gates"] if g["policy"] == "champion" and g["name"].startswith("A/A"))
    assert (again["verdict"], again["value"]) == ("pass", 0.0)
    logged, champion = told["rows"][:2]
    assert champion["mean"] == pytest.approx(logged["mean"], rel=1e-4)
    assert logged["mean"] == pytest.approx(28 * 1.0 / 110, rel=1e-6)
    client.delete("/v1/users/u0")
    client.run(estimator.advance(client.service))
    assert estimator.told["lists"] == 107


def test_chances_computed_anew_are_those_logged_whatever_was_asked_for(client, click):
    client.post("/v1/events", json=[click("a", item) for item in (3, 8, 11)])
    variants = [{"name": "bold", "exploration": {"kind": "thompson", "samples": 4, "epsilon": 0.2}}]
    client.put("/v1/experiments/e", json={"variants": variants, "scenarios": ["bold"]})
    for asked in (
        {"user": "a", "n": 6},
        {"user": "nobody", "n": 6},
        {"user": "a", "n": 4, "filter": {"categories": ["group 1"]}},
        {
            "user": "a",
            "n": 4,
            "exclude": ["i1", "i2"],
            "exclude_seen": False,
            "attributes": {"country": "UK"},
        },
        {"user": "a", "n": 4, "scenario": "bold"},
    ):
        assert client.post("/v1/recommend", json=asked).status_code == 200
    assert client.post("/v1/rank", json={"user": "a", "items": ["i1", "i5", "i6"]}).status_code == 200
    rows = client.run(client.service.store.recent("", 10))
    lines = [from_row(row) for row in reversed(rows)]
    champion = client.service.fleet.current
    assert len(lines) == 6
    for line in lines:
        again = chances(champion, line)
        if line.variant is None:
            assert drawn_by(line) == champion.version
            np.testing.assert_allclose(again, line.propensities, rtol=1e-5)
        else:  # the variant drew it, not the champion's own policy
            assert drawn_by(line) == ""
            assert not np.allclose(again, line.propensities, rtol=1e-3)


def test_an_estimate_nobody_reads_stops(compared, monkeypatch):
    client, *_ = compared
    monkeypatch.setattr("serving.console.live_estimate.PATIENCE_S", 0.0)
    monkeypatch.setattr("serving.console.live_estimate.EVERY_S", 0.01)
    assert client.get("/console/api/estimate").json()["lists"] == 0
    estimator = client.app.state.console.estimate
    deadline = time.monotonic() + 5
    while not estimator.idle and time.monotonic() < deadline:
        client.get("/healthz")
    assert estimator.idle
