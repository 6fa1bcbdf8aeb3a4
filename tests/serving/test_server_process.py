"""A real server process on a loopback port: restarts, kills, workers."""

import asyncio
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from pydantic import ValidationError

from serving.settings import Settings
from tests.serving.server import running_server, start_server


def test_a_real_process_serves_and_learns(server, click):
    with httpx.Client(base_url=server.url) as http:
        before = http.post("/v1/recommend", json={"user": "p1", "n": 5}).json()
        assert http.post("/v1/events", json=click("p1", 3)).status_code == 202
        after = http.post("/v1/recommend", json={"user": "p1", "n": 5}).json()
        assert (before["support_events"], after["support_events"]) == (0, 1)
        assert all(0 < item["propensity"] <= 1 for item in after["items"])


def test_clients_writing_at_once_see_their_own_events(server, click):
    def client(number: int) -> list[int]:
        seen = []
        with httpx.Client(base_url=server.url) as http:
            for item in range(8):
                assert http.post("/v1/events", json=click(f"c{number}", item)).status_code == 202
                seen.append(http.post("/v1/recommend", json={"user": f"c{number}"}).json()["support_events"])
        return seen

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(client, range(6))) == [[1, 2, 3, 4, 5, 6, 7, 8]] * 6


def test_a_large_body_is_refused_over_a_real_connection(server):
    answer = httpx.post(f"{server.url}/v1/events", content=b" " * 3_000_000)
    assert answer.status_code == 413


def test_what_is_not_http_does_not_disturb_the_server(server):
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"\x00\xffnot http\r\n\r\n")
        assert b"400" in raw.recv(1_000)
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_restart_keeps_events_and_impressions(bundle, tmp_path, click):
    store = tmp_path / "store.sqlite"
    with running_server(bundle, store) as server:
        httpx.post(
            f"{server.url}/v1/events", json=[click("a", item, event_id=f"e{item}") for item in range(4)]
        )
        httpx.post(f"{server.url}/v1/recommend", json={"user": "a"})
        server.stop()
        assert "Application shutdown complete" in server.log.read_text()
    with running_server(bundle, store) as server:
        assert len(httpx.get(f"{server.url}/v1/users/a/events").json()["events"]) == 4
        assert httpx.post(f"{server.url}/v1/recommend", json={"user": "a"}).json()["support_events"] == 4
        assert httpx.post(f"{server.url}/v1/events", json=click("a", event_id="e0")).json()["duplicates"] == 1
        gone = httpx.delete(f"{server.url}/v1/users/a").json()
        assert (gone["events"], gone["impressions"]) == (4, 2)


async def _write_until_it_dies(
    url: str, writer: int, click, accepted: dict[str, str | None], shown: list[str]
):
    """Ask for lists and say what was clicked in them; note what was acknowledged, and the lists but the last."""
    async with httpx.AsyncClient(base_url=url) as http:
        number, last = 0, None
        try:
            while True:
                batch = [
                    click("k", number % 9, event_id=f"{url}-{writer}-{number + i}", recommendation_id=last)
                    for i in range(3)
                ]
                if (await http.post("/v1/events", json=batch)).status_code == 202:
                    accepted.update({event["event_id"]: last for event in batch})
                number += 3
                if last is not None:
                    shown.append(last)
                answer = await http.post("/v1/recommend", json={"user": "k", "n": 3})
                last = answer.json()["recommendation_id"]
        except httpx.TransportError:
            return


def test_no_accepted_event_and_no_list_it_speaks_of_is_lost_when_the_process_is_killed(
    bundle, tmp_path, click
):
    """A list is written right after its answer, so the very last one may be lost; never one that an event names."""
    store = tmp_path / "store.sqlite"
    accepted: dict[str, str | None] = {}
    shown: list[str] = []

    async def load_and_kill(server) -> None:
        writers = [
            asyncio.create_task(_write_until_it_dies(server.url, writer, click, accepted, shown))
            for writer in range(3)
        ]
        await asyncio.sleep(0.4)
        server.kill()
        await asyncio.gather(*writers)

    for _ in range(2):
        with running_server(bundle, store) as server:
            asyncio.run(load_and_kill(server))
    assert len(accepted) > 20
    with closing(sqlite3.connect(store)) as connection:
        kept = [event_id for (event_id,) in connection.execute("SELECT event_id FROM events")]
        lists = {key for (key,) in connection.execute("SELECT recommendation_id FROM impressions")}
    assert len(kept) == len(set(kept))
    assert set(accepted) <= set(kept)
    assert {named for named in accepted.values() if named is not None} <= lists
    assert set(shown) <= lists


def test_several_workers_share_one_store(bundle, tmp_path, click):
    with running_server(bundle, tmp_path / "store.sqlite", workers=2) as server:

        def client(number: int) -> list[int]:
            seen = []
            for item in range(6):  # a new connection each time, so that either worker may take it
                assert (
                    httpx.post(f"{server.url}/v1/events", json=click(f"w{number}", item)).status_code == 202
                )
                answer = httpx.post(f"{server.url}/v1/recommend", json={"user": f"w{number}"})
                seen.append(answer.json()["support_events"])
            return seen

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(client, range(4))) == [[1, 2, 3, 4, 5, 6]] * 4


def test_a_server_without_a_bundle_ends_at_once_and_says_why(tmp_path):
    server = start_server(tmp_path / "nowhere", tmp_path / "store.sqlite")
    try:
        assert server.process.wait(30) != 0
    finally:
        server.kill()
    assert str(tmp_path / "nowhere") in server.log.read_text()


@pytest.mark.parametrize(("name", "value"), [("max_n", "0"), ("port", "http"), ("synchronous", "off")])
def test_a_setting_out_of_bounds_is_refused_by_its_name(monkeypatch, name, value):
    monkeypatch.setenv(f"RECSYS_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()
