"""The client against a real server, and against one that fails for a moment."""

import asyncio
import json

import httpx
import pytest

from serving.client import AsyncClient, Client, EndpointError, event


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
