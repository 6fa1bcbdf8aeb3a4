"""Latency and throughput of a real server process on loopback; `make bench` runs it, within a minute.

    python -m tests.benchmarks.bench_endpoint [bundle folder]

Without a folder a small bundle with random weights is served, so the figures are those of the endpoint around
the ranker. The client shares the machine's cores with the server. Figures: p50, p99 and requests/s of
/v1/recommend at 1 and 4 connections for users with 20 events, and events/s singly and in batches.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from recsys.recommender import load_recommender
from tests.factories import write_tiny_bundle
from tests.serving.server import Server, running_server

USERS = 200
EVENTS_PER_USER = 20
SECONDS = 5.0
N = 20


class Connection:
    """One kept-alive HTTP/1.1 connection, as thin as a client can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        return int(lines[0].split()[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def connect(server: Server) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", server.port))


async def load(
    server: Server, connections: int, path: str, bodies: list[bytes], expected: int
) -> list[float]:
    """Send bodies in turn over some connections for SECONDS; return each answer's seconds."""
    took: list[float] = []
    until = time.perf_counter() + SECONDS

    async def one(offset: int) -> None:
        connection = await connect(server)
        turn = offset
        while time.perf_counter() < until and turn < len(bodies):
            began = time.perf_counter()
            status, answer = await connection.post(path, bodies[turn])
            took.append(time.perf_counter() - began)
            assert status == expected, answer
            turn += connections
        connection.close()

    await asyncio.gather(*(one(offset) for offset in range(connections)))
    return took


def event(items: list[str], kind: str, turn: int, user: int) -> dict[str, object]:
    return {"user": f"u{user}", "item_id": items[turn * 7 % len(items)], "event_type": kind, "value": 1.0}


def report(name: str, took: list[float], seconds: float, each: int = 1) -> None:
    p50, p99 = np.percentile(np.array(took) * 1e3, [50, 99])
    print(f"{name:34} {len(took) * each / seconds:10.0f}/s   p50 {p50:7.2f} ms   p99 {p99:7.2f} ms")


async def measure(server: Server, items: list[str], kind: str) -> None:
    connection = await connect(server)
    for user in range(USERS):
        batch = [event(items, kind, user + turn, user) for turn in range(EVENTS_PER_USER)]
        status, answer = await connection.post("/v1/events", json.dumps(batch).encode())
        assert status == 202, answer
    connection.close()
    asks = [json.dumps({"user": f"u{turn % USERS}", "n": N}).encode() for turn in range(100_000)]
    await load(server, 1, "/v1/recommend", asks[:200], 200)  # warm
    for connections in (1, 4):
        began = time.perf_counter()
        took = await load(server, connections, "/v1/recommend", asks, 200)
        report(f"recommend, {connections} connection(s)", took, time.perf_counter() - began)
    for connections in (1, 32):
        singles = [json.dumps(event(items, kind, turn, 10_000 + turn)).encode() for turn in range(100_000)]
        began = time.perf_counter()
        took = await load(server, connections, "/v1/events", singles, 202)
        report(f"events singly, {connections} connection(s)", took, time.perf_counter() - began)
    batches = [
        json.dumps([event(items, kind, turn, 200_000 + batch * 7 + turn) for turn in range(1_000)]).encode()
        for batch in range(200)
    ]
    began = time.perf_counter()
    took = await load(server, 2, "/v1/events", batches, 202)
    report("events in batches of 1000", took, time.perf_counter() - began, each=1_000)


def bench(folder: Path, bundle: Path) -> None:
    """Serve a bundle from a store in a folder and print the figures."""
    recommender = load_recommender(bundle)
    items, kind = list(recommender.catalogue.item_ids), recommender.event_types[-1]
    print(f"\n{recommender.version}: {len(items)} items, {EVENTS_PER_USER} events a user, n = {N}")
    with running_server(bundle, folder / "store.sqlite") as server:
        asyncio.run(measure(server, items, kind))
        peak_kib = Path(f"/proc/{server.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        print(f"peak memory of the server: {int(peak_kib) / 1024:.0f} MiB")


def test_speed_of_the_endpoint_around_a_tiny_bundle(tmp_path: Path) -> None:
    bench(tmp_path, write_tiny_bundle(tmp_path / "bundle"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        bench(here, Path(sys.argv[1]) if len(sys.argv) > 1 else write_tiny_bundle(here / "bundle"))
