"""The client against a real server, and against one that fails for a moment."""

import asyncio
import json
import re

import httpx
import pytest

from serving.app import create_app
from serving.client import AsyncClient, Client, EndpointError, event
from serving.settings import Settings


def test_the_client_asks_a_real_server_for_all_there_is(server, recommender):
    kind = recommender.feedback_types[-1]
    with Client(server.url) as client:
        first = client.recommend("cl", n=4)
        clicked = event("cl", first.items[0].item_id, kind, recommendation_id=first.recommendation_id)
        assert client.send([clicked]).accepted == 1
        assert client.send([clicked]).duplicates == 1
        assert client.recommend("cl").support_events == 1
        assert len(client.next(first.recommendation_id).items) == 4
        assert client.rank("cl", ["i1", "nowhere"]).unknown == ["nowhere"]
        told = client.recommend_to_session([{"item_id": "i2", "event_type": kind}], n=2)
        assert told.support_events == 1
        assert client.send([{"user": "cl"}]).rejected[0]["index"] == 0
        with pytest.raises(EndpointError, match="422 invalid_request: n is 0"):
            client.recommend("cl", n=0)

    async def ask() -> int:
        async with AsyncClient(server.url) as client:
            one, other = await asyncio.gather(client.recommend("cl"), client.recommend_to_session([], n=3))
            await client.send([event("cl", "i3", kind)])
            assert len((await client.rank("cl", ["i1"])).items) == 1
            assert len((await client.next(one.recommendation_id)).items) == 10
            return one.support_events + len(other.items)

    assert asyncio.run(ask()) == 4


class Failing:
    """Answers 503 some times, then takes events; and once breaks off after taking them."""

    def __init__(self, failures: list[int | None]) -> None:
        self.failures, self.seen = failures, []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(json.loads(request.content))
        failure = self.failures.pop(0) if self.failures else 0
        if failure is None:
            raise httpx.ReadError("broken off")
        if failure:
            headers = {"retry-after": "0"}
            return httpx.Response(failure, json={"error": {"code": "x", "message": "later"}}, headers=headers)
        return httpx.Response(202, json={"accepted": 1, "duplicates": 0, "rejected": []})


def test_what_fails_for_a_moment_is_tried_again_with_the_same_ids():
    server = Failing([503, None, 429])
    with Client("http://there", transport=httpx.MockTransport(server)) as client:
        assert client.send([{"user": "u", "item_id": "i", "event_type": "click"}]).accepted == 1
    assert len(server.seen) == 4
    assert len({rows[0]["event_id"] for rows in server.seen}) == 1

    async def again() -> int:
        other = Failing([503, None, 429])
        async with AsyncClient("http://there", transport=httpx.MockTransport(other)) as client:
            await client.send([{"user": "u", "item_id": "i", "event_type": "click"}])
        return len(other.seen)

    assert asyncio.run(again()) == 4


def test_what_stays_broken_is_told_in_the_end_and_what_is_wrong_at_once():
    always, wrong = Failing([503] * 9), Failing([403])
    with (
        Client("http://there", retries=2, transport=httpx.MockTransport(always)) as client,
        pytest.raises(EndpointError, match="503 x: later"),
    ):
        client.send([{}])
    assert len(always.seen) == 3
    with (
        Client("http://there", transport=httpx.MockTransport(wrong)) as client,
        pytest.raises(EndpointError, match="403"),
    ):
        client.send([{}])
    assert len(wrong.seen) == 1
    with (
        Client("http://there", retries=1, transport=httpx.MockTransport(Failing([None] * 9))) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.send([{}])


def asked_of(client, version: str) -> list:
    """Ask for everything there is; a coroutine each, from the client that has an event loop."""
    return [
        client.recommend("u/ü", n=2),
        client.recommend_to_session([]),
        client.next("r1", n=3),
        client.rank(None, ["i1"]),
        client.similar("a/b", category="x y"),
        client.onboarding(user="u"),
        client.send([event("u", "i1", "click")]),
        client.item("i1"),
        client.put_item("i1", title="One", price=2.0),
        client.change_item("i1", available=False),
        client.delete_item("i1"),
        client.put_items([{"item_id": "i2", "title": "Two"}]),
        client.user("u"),
        client.put_user("u", country="UK"),
        client.forget("u"),
        client.user_events("u", limit=5),
        client.merge("u", "v"),
        client.models(),
        client.activate(version),
        client.roll_back(),
        client.shadow(version),
        client.shadow(None),
        client.experiments(),
        client.put_experiment("e", [{"name": "a", "weight": 1}], scenarios=["home"]),
        client.stop_experiment("e"),
        client.ready(),
    ]


class Everything:
    """Remembers what it is asked and answers anything."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append((request.method, request.url.raw_path.decode().split("?")[0]))
        listed = {"recommendation_id": "r", "model": "m", "variant": None, "policy": "p", "seed": 1}
        listed |= {"served_by": "adapted", "support_events": 0, "took_ms": 1.0, "items": []}
        counts = {"accepted": 1, "duplicates": 0, "rejected": []}
        return httpx.Response(200, json={**listed, **counts, "events": [], "experiments": []})


def test_there_is_a_method_for_every_route(tmp_path):
    server = Everything()
    with Client("http://there", transport=httpx.MockTransport(server)) as client:
        asked_of(client, "v1")
        client.export(tmp_path / "log" / "events.parquet")
    app = create_app(Settings(auth="off"))
    plain = {
        "/healthz",
        "/livez",
        "/metrics",
        "/",
        "/v1/recommend/{user}",
    }  # for probes, scrapers, browsers and links
    wanted = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if path not in plain and not path.startswith("/console")
    }

    def template(method: str, path: str) -> tuple[str, str]:
        fits = [
            known
            for verb, known in sorted(wanted, key=lambda pair: pair[1].count("{"))
            if verb == method and re.fullmatch(re.sub(r"\\{[^/]*?\\}", "[^/]+", re.escape(known)), path)
        ]
        assert fits, (method, path)
        return method, fits[0]

    assert {template(method, path) for method, path in server.seen} == wanted
    again = Everything()

    async def ask() -> None:
        async with AsyncClient("http://there", transport=httpx.MockTransport(again)) as client:
            for one in asked_of(client, "v1"):
                await one
            await client.export(tmp_path / "again" / "events.parquet")

    asyncio.run(ask())
    assert again.seen == server.seen
    first, second = (tmp_path / folder / "events.parquet" for folder in ("log", "again"))
    assert first.read_bytes() == second.read_bytes() != b""


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_can_be_no_key_is_refused_before_anything_is_sent(kind):
    with pytest.raises(ValueError, match="the key holds characters that no key has; give it as"):
        kind("http://there", key="mq_…")


def test_a_roll_back_is_never_asked_twice():
    asked = []

    def breaks_off(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ReadError("broken off")

    with (
        Client("http://there", transport=httpx.MockTransport(breaks_off)) as client,
        pytest.raises(httpx.ReadError),
    ):
        client.roll_back()
    assert len(asked) == 1


def test_the_catalogue_and_users_of_a_real_server_through_the_client(server, tmp_path):
    with Client(server.url) as client:
        assert client.put_items(
            [{"item_id": "cl-1", "title": "Item 3"}, {"item_id": "cl/2", "title": "Item 4"}]
        )
        assert client.item("cl/2")["title"] == "Item 4"
        client.change_item("cl/2", price=3.0)
        assert client.item("cl/2")["price"] == 3.0
        assert len(client.similar("cl-1", n=3)) == 3
        assert client.put_user("cl-u", country="UK")["attributes"] == {"country": "UK"}
        client.send([event("cl-u", "cl-1", "click")])
        assert client.user_events("cl-u")[0]["item_id"] == "cl-1"
        assert client.user("cl-u")["events"] == 1
        assert client.forget("cl-u")["remaining"] == {"events": 0, "impressions": 0, "users": 0}
        for item_id in ("cl-1", "cl/2"):
            client.delete_item(item_id)
        with pytest.raises(EndpointError, match="404"):
            client.item("cl-1")
        assert client.ready()["status"] == "ready"
        with pytest.raises(EndpointError, match="409"):
            client.roll_back()  # one bundle by its folder: there is nothing to go back to
        assert client.export(tmp_path / "e.ndjson", form="ndjson").stat().st_size >= 0
