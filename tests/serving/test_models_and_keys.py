"""Activation under load, roll-back, shadow, experiments; keys, scopes, rates, bounds, logs, traces."""

import asyncio
import json
import logging
import re
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from serving.app import create_app
from serving.experiments import Experiment, assigned
from serving.security import RateLimit, add_key, read_keys, remove_key
from serving.settings import Settings
from serving.tracing import make_tracer
from tests.factories import write_tiny_bundle
from tests.serving.app_client import AppClient


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    home = Registry(root)
    for seed in (1, 2):
        folder = write_tiny_bundle(tmp_path_factory.mktemp("made") / f"b{seed}", seed=seed)
        version = home.publish(folder, "metaq")
        if seed == 1:
            home.set_alias("metaq", "champion", version)
    return root


@pytest.fixture
def registered(make_client, registry, tmp_path):
    versions = Registry(registry).versions("metaq")
    Registry(registry).set_alias("metaq", "champion", versions[0])
    return make_client(bundle=None, registry=registry), versions


def model_of(client, **asked) -> str:
    return client.post("/v1/recommend", json={"user": "a", **asked}).json()["model"]


def test_a_version_is_activated_and_rolled_back(registered):
    client, (old, new) = registered
    assert client.get("/v1/models").json()["active"] == model_of(client) == old
    client.put("/v1/items/added", json={"title": "Item 3"})
    assert client.post(f"/v1/models/{new}/activate").json() == {"active": new}
    assert model_of(client) == new
    shown = client.post("/v1/recommend", json={"user": "a", "n": 60}).json()["items"]
    assert "added" in [item["item_id"] for item in shown]  # the change outlives the model
    assert client.post("/v1/models/rollback").json() == {"active": old}
    assert model_of(client) == old
    assert client.post("/v1/models/v9999-none/activate").status_code == 404
    assert f'recsys_bundle_info{{role="champion",version="{old}"}} 1.0' in client.get("/metrics").text


def test_a_worker_follows_what_another_moved(registered, registry):
    client, (_, new) = registered
    Registry(registry).set_alias("metaq", "champion", new)
    client.run(client.service.fleet.refresh())
    assert model_of(client) == new


def test_swaps_under_load_drop_no_request_and_mix_no_versions(registered):
    """Short form of the soak: each version's answers are those of its own recommender, replayed from the line."""
    client, versions = registered

    async def storm() -> list[dict]:
        transport = httpx.ASGITransport(client.app)
        answers: list[dict] = []
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            done = asyncio.Event()

            async def ask(number: int) -> None:
                while not done.is_set():
                    answer = await http.post("/v1/recommend", json={"user": f"u{number}", "n": 5})
                    assert answer.status_code == 200, answer.text
                    answers.append(answer.json())
                    await asyncio.sleep(0)  # this transport never waits, as a socket would

            asking = [asyncio.create_task(ask(number)) for number in range(4)]
            for turn in range(6):
                moved = await http.post(f"/v1/models/{versions[1 - turn % 2]}/activate")
                assert moved.status_code == 200
                await asyncio.sleep(0.02)
            done.set()
            await asyncio.gather(*asking)
        return answers

    answers = client.run(storm())
    assert {answer["model"] for answer in answers} == set(versions)
    from serving.event_log import replay

    for answer in answers[:: max(1, len(answers) // 40)]:
        line = client.run(client.service.store.impression(answer["recommendation_id"]))
        model = client.service.fleet._loaded[answer["model"]]
        again = replay(model, line)
        assert model.catalogue.ids(again.items) == [item["item_id"] for item in answer["items"]]


def test_a_shadow_ranks_unseen_and_its_difference_is_logged(registered):
    client, (old, new) = registered
    assert client.post(f"/v1/models/{new}/shadow").json() == {"shadow": new}
    answer = client.post("/v1/recommend", json={"user": "a", "n": 5}).json()
    assert answer["model"] == old
    client.run(asyncio.sleep(0.05))
    line = client.run(client.service.store.impression(answer["recommendation_id"]))
    told = line.notes["shadow"]
    assert told["model"] == new
    assert len(told["items"]) == 5
    assert told["overlap"] == len(set(told["items"]) & set(line.item_ids)) / 5
    assert "recsys_shadow_overlap_count 1.0" in client.get("/metrics").text
    client.delete("/v1/models/shadow")
    assert client.get("/v1/models").json()["shadow"] is None


def test_an_experiment_assigns_each_user_once_and_for_all(registered):
    client, (_, new) = registered
    body = {
        "variants": [
            {"name": "control"},
            {"name": "new", "model": new},
            {"name": "curious", "exploration": {"kind": "epsilon", "epsilon": 0.5}},
        ]
    }
    assert client.put("/v1/experiments/e1", json=body).status_code == 200
    seen: dict[str, set[str]] = {}
    for user in [f"u{number}" for number in range(30)] * 2:
        answer = client.post("/v1/recommend", json={"user": user}).json()
        seen.setdefault(user, set()).add(answer["variant"])
        assert (answer["model"] == new) == (answer["variant"] == "e1:new")
        assert answer["policy"].startswith("epsilon") == (answer["variant"] == "e1:curious")
    assert all(len(variants) == 1 for variants in seen.values())
    assert len(set.union(*seen.values())) == 3
    forced = client.post("/v1/recommend", json={"user": "u0", "variant": "new"}).json()
    line = client.run(client.service.store.impression(forced["recommendation_id"]))
    assert line.variant == forced["variant"] == "e1:new"
    assert client.post("/v1/recommend", json={"user": "u0", "variant": "none"}).status_code == 422
    assert client.get("/v1/experiments").json()["experiments"][0]["name"] == "e1"
    assert (
        client.put("/v1/experiments/e2", json={"variants": [{"name": "x", "model": "nowhere"}]}).status_code
        == 404
    )
    assert client.delete("/v1/experiments/e1").json() == {"experiments": []}
    assert client.delete("/v1/experiments/e1").status_code == 404


def test_assignment_follows_the_weights_and_the_scenario():
    experiment = Experiment(
        name="e",
        variants=[{"name": "a", "weight": 3}, {"name": "b", "weight": 1}, {"name": "c", "weight": 0}],
        scenarios=("home",),
    )
    drawn = [experiment.of(f"user {number}").name for number in range(8_000)]
    assert drawn.count("c") == 0
    assert abs(drawn.count("a") / 8_000 - 0.75) < 0.02
    assert assigned([experiment], "u", "basket", None) is None
    assert assigned([experiment], None, "home", None) is None
    other = experiment.model_copy(update={"salt": "2"})
    assert [other.of(f"user {number}").name for number in range(50)] != drawn[:50]


@pytest.fixture
def guarded(make_client, tmp_path):
    path = tmp_path / "keys.json"
    keys = {
        name: add_key(path, name, scopes)
        for name, scopes in {"reader": ["read"], "writer": ["read", "write"], "admin": ["admin"]}.items()
    }
    return make_client(auth="on", api_keys=path, rate_limit=1_000, rate_burst=100), keys


def test_a_key_opens_what_its_scopes_say(guarded, click):
    client, keys = guarded

    def status(name: str | None, method: str, path: str, **content) -> int:
        headers = {} if name is None else {"x-api-key": keys.get(name, name)}
        return client.request(method, path, headers=headers, **content).status_code

    ask = {"json": {"user": "a"}}
    assert [status(name, "POST", "/v1/recommend", **ask) for name in (None, "mq_guess", "reader")] == [
        401,
        401,
        200,
    ]
    assert [status(name, "POST", "/v1/events", json=click("a")) for name in ("reader", "writer")] == [
        403,
        202,
    ]
    assert [status(name, "GET", "/v1/models") for name in ("writer", "admin")] == [403, 200]
    assert [status(name, "DELETE", "/v1/users/a") for name in ("reader", "writer")] == [403, 200]
    assert [status(None, "GET", path) for path in ("/healthz", "/readyz", "/metrics", "/docs")] == [200] * 4
    bearer = {"authorization": f"Bearer {keys['reader']}"}
    assert client.get("/v1/recommend/a", headers=bearer).status_code == 200
    refused = client.get("/v1/recommend/a")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["code"] == "unauthorized"


def test_the_file_holds_no_secret_and_is_private(tmp_path):
    path = tmp_path / "keys.json"
    secret = add_key(path, "one", ["read"])
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="has a key named 'one'"):
        add_key(path, "one", ["read"])
    remove_key(path, "one")
    with pytest.raises(UserError, match="no API keys"):
        read_keys(path)
    add_key(path, "two", ["read"])
    assert [key.name for key in read_keys(path)] == ["two"]
    path.write_text("[{}]")
    with pytest.raises(UserError, match="holds no API keys"):
        read_keys(path)


def test_without_keys_only_this_machine_is_served(tmp_path, bundle):
    with pytest.raises(
        ValidationError, match=f"auth is off on host .* with `{re.escape(sys.executable)} -m serving keys add"
    ):
        Settings(auth="off", host="0.0.0.0")
    with pytest.raises(
        UserError, match=f"no API keys in .* with `{re.escape(sys.executable)} -m serving keys add"
    ):
        create_app(Settings(api_keys=tmp_path / "none.json", bundle=bundle))
    app = create_app(Settings(auth="off", bundle=bundle, store=tmp_path / "s.sqlite"))
    with AppClient(app) as client:
        client._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://10.1.2.3:8000"
        )
        assert (
            client.get("/v1/recommend/a").status_code == 403
        )  # somebody bound uvicorn to another address by hand


def test_a_bucket_fills_again():
    limit = RateLimit(rate=2.0, burst=3)
    assert [limit.wait_s("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert limit.wait_s("a", 0.0) == pytest.approx(0.5)
    assert limit.wait_s("b", 0.0) == 0.0
    assert limit.wait_s("a", 0.5) == 0.0
    assert limit.wait_s("a", 0.5) > 0


def test_too_many_requests_of_a_key_are_told_when_to_come_again(make_client):
    client = make_client(rate_limit=1.0, rate_burst=2)
    answers = [client.get("/v1/recommend/a") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert client.get("/healthz").status_code == 200
    assert 'recsys_requests_refused_total{reason="rate"} 2.0' in client.get("/metrics").text


def test_beyond_the_bound_requests_are_shed(make_client):
    client = make_client(max_in_flight=2)

    async def flood() -> list[int]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            answers = await asyncio.gather(*(http.get(f"/v1/items/i{n}/similar") for n in range(10)))
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        return [answer.status_code for answer in answers]

    statuses = client.run(flood())
    assert set(statuses) == {200, 503}


def test_a_request_id_goes_through_and_lines_name_no_user(make_client, caplog):
    client = make_client()
    with caplog.at_level(logging.INFO, logger="serving.requests"):
        answer = client.get("/v1/recommend/a-private-name", headers={"x-request-id": "abc-1"})
        client.post("/v1/recommend", json={"user": "a-private-name"})
        client.get("/v1/users/a-private-name/events", headers={"x-request-id": "bad id\t"})
    assert answer.headers["x-request-id"] == "abc-1"
    lines = [json.loads(record.message) for record in caplog.records if record.name == "serving.requests"]
    assert [line["status"] for line in lines] == [200, 200, 200]
    assert lines[0]["request_id"] == "abc-1"
    assert len(lines[2]["request_id"]) == 32
    assert lines[0]["route"] == "/v1/recommend/{user:path}"
    assert "a-private-name" not in caplog.text


def test_browsers_of_other_origins_are_let_in_by_name_only(make_client, tmp_path):
    client = make_client(cors_origins=("https://shop.example",), store=tmp_path / "c.sqlite")
    good = client.get("/healthz", headers={"origin": "https://shop.example"})
    assert good.headers["access-control-allow-origin"] == "https://shop.example"
    for one in (client, make_client()):
        assert (
            "access-control-allow-origin"
            not in one.get("/healthz", headers={"origin": "https://x.example"}).headers
        )


def test_spans_of_a_request_and_its_stages_are_made(bundle, tmp_path):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = Settings(auth="off", bundle=bundle, store=tmp_path / "s.sqlite")
    with AppClient(create_app(settings, tracer=make_tracer(True, provider))) as client:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        client.post("/v1/recommend", json={"user": "a"}, headers={"traceparent": parent})
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"read", "rank", "log", "POST /v1/recommend"}
    whole = spans["POST /v1/recommend"]
    assert format(whole.context.trace_id, "032x") == parent.split("-")[1]
    assert spans["rank"].parent.span_id == whole.context.span_id


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_without_keys_a_page_of_another_site_changes_nothing(registered, method):
    client, (old, new) = registered
    path = f"/v1/models/{new}/activate" if method == "POST" else "/v1/items/added"
    for origin in ("http://elsewhere.example", "http://app:8080", "null"):
        refused = client.request(method, path, headers={"Origin": origin}, json={"title": "x"})
        assert refused.status_code == 403
        assert "RECSYS_CORS_ORIGINS" in refused.json()["error"]["message"]
    assert model_of(client) == old
    assert client.get("/v1/items/added", headers={"Origin": "http://elsewhere.example"}).status_code == 404
    assert client.post(f"/v1/models/{new}/activate", headers={"Origin": "http://app"}).status_code == 200
