"""PostgreSQL behind a door that can be shut: answers go on, events wait in a file and follow, nothing is lost."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from tests.serving.databases import new_database
from tests.serving.server import Server, free_port, running_server

DOOR = Path(__file__).with_name("door.py")


class Door:
    """A process that passes connections on to the database while it is open."""

    def __init__(self, url: str) -> None:
        there = make_url(url)
        self.port = free_port()
        self.url = there.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)
        self._to = (there.host, str(there.port))
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        self._process = subprocess.Popen([sys.executable, DOOR, str(self.port), *self._to])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), contextlib.closing(_connected(self.port)):
                return
            time.sleep(0.02)
        raise TimeoutError("the door does not open")

    def shut(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _connected(port: int):
    import socket

    return socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.fixture
def behind_a_door(bundle: Path, tmp_path: Path) -> Iterator[tuple[Server, Door, str]]:
    with new_database() as url:
        door = Door(url)
        door.open()
        try:
            with running_server(
                bundle, tmp_path / "spool.sqlite", database=door.url, database_timeout_s=1, deadline_ms=2_000
            ) as server:
                yield server, door, url
        finally:
            door.shut()


def until(condition, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.1)


def test_while_the_database_is_away_answers_go_on_and_no_event_is_lost(behind_a_door, click):
    server, door, url = behind_a_door
    with httpx.Client(base_url=server.url, timeout=10) as http:

        def send(event_id: str, user: str = "a") -> dict:
            answer = http.post("/v1/events", json=click(user, len(event_id) % 9, event_id=event_id))
            assert answer.status_code == 202, answer.text
            return answer.json()

        def ask(user: str) -> dict:
            answer = http.post("/v1/recommend", json={"user": user, "n": 5})
            assert answer.status_code == 200, answer.text
            return answer.json()

        send("before")
        assert ask("a")["support_events"] == 1
        door.shut()
        for number in range(20):
            assert send(f"away-{number}")["accepted"] == 1
        assert send("away-3") == {"accepted": 0, "duplicates": 1, "rejected": []}
        assert ask("a")["support_events"] == 20  # what waits here is known
        stranger = ask("somebody else")
        assert len(stranger["items"]) == 5
        assert http.get("/readyz").json()["store"] == "away"
        assert http.delete("/v1/users/a").status_code == 503  # a deletion that cannot be done is not promised
        assert "recsys_database_away 1.0" in http.get("/metrics").text
        door.open()
        until(lambda: http.get("/readyz").json()["store"] == "ready")
        until(lambda: len(http.get("/v1/users/a/events").json()["events"]) == 21)
        assert send("away-5")["duplicates"] == 1
        assert ask("a")["support_events"] == 20  # as many as this bundle's state reads
    until(lambda: _count(url, "impressions") == 4)
    assert _count(url, "events") == 21


def test_what_waits_survives_a_kill_and_follows_at_the_next_start(behind_a_door, bundle, tmp_path, click):
    server, door, url = behind_a_door
    with httpx.Client(base_url=server.url, timeout=10) as http:
        door.shut()
        for number in range(10):
            assert http.post("/v1/events", json=click("a", event_id=f"e{number}")).status_code == 202
    server.kill()
    assert _count(url, "events") == 0
    door.open()
    with running_server(bundle, tmp_path / "spool.sqlite", database=door.url):
        until(lambda: _count(url, "events") == 10)


def test_no_event_is_lost_or_doubled_when_a_server_on_postgresql_is_killed(bundle, tmp_path, click):
    accepted: list[str] = []

    async def write(url: str, writer: int, round_: int) -> None:
        async with httpx.AsyncClient(base_url=url) as http:
            with contextlib.suppress(httpx.TransportError):
                for number in range(10_000):
                    batch = [click("k", i, event_id=f"{round_}-{writer}-{number}-{i}") for i in range(3)]
                    if (await http.post("/v1/events", json=batch)).status_code == 202:
                        accepted.extend(event["event_id"] for event in batch)

    async def load_and_kill(server: Server, round_: int) -> None:
        writers = [asyncio.create_task(write(server.url, writer, round_)) for writer in range(3)]
        await asyncio.sleep(0.4)
        server.kill()
        await asyncio.gather(*writers)

    with new_database() as url:
        for round_ in range(2):
            with running_server(bundle, tmp_path / "s.sqlite", database=url) as server:
                asyncio.run(load_and_kill(server, round_))
        assert len(accepted) > 20
        assert _rows(url, "SELECT event_id FROM events") >= set(accepted)
        assert _count(url, "events") == len(_rows(url, "SELECT DISTINCT event_id FROM events"))


def test_two_replicas_on_one_database_follow_each_other(bundle, tmp_path, click):
    with (
        new_database() as url,
        running_server(bundle, tmp_path / "one.sqlite", database=url) as one,
        running_server(bundle, tmp_path / "two.sqlite", database=url) as two,
    ):
        httpx.post(f"{one.url}/v1/events", json=click("a", 3))
        assert httpx.post(f"{two.url}/v1/recommend", json={"user": "a"}).json()["support_events"] == 1
        began = time.monotonic()
        httpx.put(f"{one.url}/v1/items/new", json={"title": "Item 3", "categories": ["fresh"]})
        asked = {"user": "a", "filter": {"categories": ["fresh"]}}
        until(lambda: httpx.post(f"{two.url}/v1/recommend", json=asked).json()["items"] != [])
        assert time.monotonic() - began < 3.0  # within a second on an idle machine: RECSYS_REFRESH_S is .25


def _rows(url: str, statement: str) -> set:
    import psycopg

    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute(statement)}


def _count(url: str, table: str) -> int:
    return next(iter(_rows(url, f"SELECT count(*) FROM {table}")))
