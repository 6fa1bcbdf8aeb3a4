"""The complete endpoint beside a bare composite of the same parts, on loopback, in one run; `make bench` runs it.

    python -m tests.benchmarks.bench_endpoint [--items 100000] [--seconds 2] [--workers 2] [--rounds 5]

Both serve over HTTP from as many workers, 200 candidates of a 64-wide index, users with 20 events, 20 items returned;
the client shares the machine's cores with them. "again" asks for the same users in turn, whose state a
worker remembers while they do nothing; "nothing remembered" adapts for every list anew. All three stand ready at once
and take turns, so that what else the machine does falls on each alike; figures are medians over the turns: lists/s,
p50, p99, CPU a list of the server's workers. Then events/s singly and in batches; memory of a worker, own and shared.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import torch

from recsys.adaptation import AdaptationPrior
from recsys.artifacts.bundle import save_bundle
from recsys.artifacts.bundle_info import QInfo
from recsys.candidates.index import build_index, choose_index
from recsys.catalogue import Catalogue
from recsys.config import ExplorationConfig, IndexConfig, RewardConfig, StateConfig
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape
from recsys.models.student import StudentNetwork
from tests.serving.databases import new_database
from tests.serving.server import ROOT, free_port, running_server

USERS, EVENTS_PER_USER, N = 200, 20, 20
TYPES = ("cancellation", "click", "impression", "purchase")


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


async def load(
    port: int, connections: int, path: str, bodies: list[bytes], expected: int, seconds: float
) -> tuple[list[float], float]:
    """Send bodies in turn over some connections; return each answer's seconds, and the seconds of it all."""
    took: list[float] = []
    began_all = time.perf_counter()
    until = began_all + seconds

    async def one(offset: int) -> None:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
        turn = offset
        while time.perf_counter() < until:
            began = time.perf_counter()
            status, answer = await connection.post(path, bodies[turn % len(bodies)])
            took.append(time.perf_counter() - began)
            assert status == expected, answer
            turn += connections
        connection.close()

    await asyncio.gather(*(one(offset) for offset in range(connections)))
    return took, time.perf_counter() - began_all


def write_bundle(folder: Path, items: int, wanted: IndexConfig | None = None) -> Path:
    """Write a student with random weights over clustered vectors: an index of 64 columns.

    Its kind is chosen by recall, unless one is given.
    """
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(int(items**0.5), 63))
    rows = centres[generator.integers(len(centres), size=items)] + 0.5 * generator.normal(size=(items, 63))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    torch.manual_seed(0)
    shape = NetworkShape(items, 4, 48, 32, 1, "gated", len(TYPES), (2,), 50, 0.0, 0.0)  # the default student
    vectors, features = torch.from_numpy(rows[:, :48].copy()), torch.from_numpy(rows[:, 48:].copy())
    table = ItemTable.of(vectors, torch.zeros(items), features)
    if wanted is None:
        index, config, _ = choose_index(table.index_vectors().numpy(), IndexConfig(kind="auto"), seed=0)
    else:
        index, config = build_index(table.index_vectors().numpy(), wanted), wanted
    info = QInfo(
        shape=shape,
        state=StateConfig(max_events=50),
        discount=0.5,
        event_types=TYPES,
        attributes=("country",),
        attribute_values=(("UK", "France"),),
        reward=RewardConfig(),
        index=config,
        exploration=ExplorationConfig(temperature=0.02),
    )
    ids = tuple(f"i{item}" for item in range(items))
    price = np.ones(items, np.float32)
    catalogue = Catalogue(ids, ids, ((),) * items, price, np.ones(items, bool))
    popularity = torch.arange(items, 0, -1).float()
    prior = AdaptationPrior(features.shape[1], len(TYPES))
    save_bundle(folder, info, StudentNetwork(shape), prior, table, popularity, catalogue, index)
    return folder


@contextmanager
def composite(items: int, workers: int) -> Iterator[tuple[int, int]]:
    """Start the composite; give its port and process."""
    port = free_port()
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "COMPOSITE_ITEMS": str(items),
    }
    command = [sys.executable, "-m", "uvicorn", "tests.benchmarks.endpoint_workers.composite:app"]
    command += ["--no-access-log", "--port", str(port), "--workers", str(workers), "--log-level", "error"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                httpx.post(f"http://127.0.0.1:{port}/v1/recommend", json={"user": "u1", "n": 1})
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def workers_of(pid: int) -> list[int]:
    """Return the processes below one, or itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    serving = [int(c) for c in children if b"resource_tracker" not in Path(f"/proc/{c}/cmdline").read_bytes()]
    return serving or [pid]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a server's workers."""
    total = 0
    for worker in workers_of(pid):
        fields = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> str:
    """Return what a worker holds for itself, and what it shares."""
    told = []
    for worker in workers_of(pid):
        parts = dict(
            line.split(":", 1) for line in Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()[1:]
        )
        size = {name: int(value.split()[0]) / 1024 for name, value in parts.items()}
        private = size["Private_Clean"] + size["Private_Dirty"]
        told.append(f"{private:.0f} own + {size['Rss'] - private:.0f} shared")
    return ", ".join(told) + " MiB"


ASKS = [json.dumps({"user": f"u{turn % USERS}", "n": N}).encode() for turn in range(USERS)]
Figures = tuple[float, float, float, float]  # lists/s, p50 ms, p99 ms, CPU ms a list


def lists(port: int, pid: int, connections: int, seconds: float) -> Figures:
    """Ask for lists for a while."""
    before = cpu_s(pid)
    took, spent = asyncio.run(load(port, connections, "/v1/recommend", ASKS, 200, seconds))
    p50, p99 = np.percentile(np.array(took) * 1e3, [50, 99])
    return len(took) / spent, p50, p99, (cpu_s(pid) - before) / len(took) * 1e3


def in_turns(contestants: dict[str, tuple[int, int]], seconds: float, rounds: int) -> None:
    """Let servers, (port, process), take turns; print medians and shares of the first one's."""
    for connections in (4, 1):
        told: dict[str, list[Figures]] = {name: [] for name in contestants}
        for turn in range(rounds + 1):
            for name, (port, pid) in contestants.items():
                figures = lists(port, pid, connections, seconds if turn else 1.0)
                if turn:  # the first is to warm up
                    told[name].append(figures)
        print(
            f"\n{connections} connection(s)            lists/s   p50 ms   p99 ms  CPU ms a list  of the first's rate"
        )
        first = np.array(next(iter(told.values())))[:, 0]
        for name, each in told.items():
            rate, p50, p99, cpu = np.median(each, axis=0)
            share = np.median(np.array(each)[:, 0] / first)  # of the same turn
            print(f"{name:24} {rate:8.0f} {p50:8.2f} {p99:8.2f} {cpu:14.2f} {share:20.2f}")


def bench(folder: Path, items: int, seconds: float, workers: int, rounds: int) -> None:
    """Print the figures of both, side by side."""
    bundle = write_bundle(folder / "bundle", items)
    chosen = json.loads((bundle / "bundle.json").read_text())["index"]
    print(
        f"\n{items} items, index {chosen['kind']} (probes {chosen['ivf_probes']}), {workers} workers, n = {N}"
    )
    again_store, fresh_store = folder / "again.sqlite", folder / "fresh.sqlite"
    with (
        composite(items, workers) as bare,
        running_server(bundle, again_store, workers=workers) as again,
        running_server(bundle, fresh_store, workers=workers, remembered=0) as fresh,
    ):
        for server in (again, fresh):
            for user in range(USERS):
                events = [
                    {
                        "user": f"u{user}",
                        "item_id": f"i{(user * 7 + turn * 131) % items}",
                        "event_type": "click",
                    }
                    for turn in range(EVENTS_PER_USER)
                ]
                assert httpx.post(f"{server.url}/v1/events", json=events).status_code == 202
            served = httpx.post(f"{server.url}/v1/recommend", json={"user": "u1", "n": N}).json()
            assert (served["served_by"], served["support_events"]) == ("adapted", EVENTS_PER_USER)
        contestants = {
            "bare composite": bare,
            "again": (again.port, again.pid),
            "nothing remembered": (fresh.port, fresh.pid),
        }
        in_turns(contestants, seconds, rounds)
        print()
        take_in(again.port, seconds, items)
        print(f"memory of each worker: {memory_mib(again.pid)}")


def take_in(port: int, seconds: float, items: int) -> None:
    """Print the figures of events."""

    def event(turn: int) -> dict[str, object]:
        return {"user": f"w{turn}", "item_id": f"i{turn % items}", "event_type": "click"}

    for connections in (1, 32):
        singles = [json.dumps(event(turn)).encode() for turn in range(60_000)]
        took, spent = asyncio.run(load(port, connections, "/v1/events", singles, 202, seconds))
        print(f"events singly, {connections:2} connection(s)           {len(took) / spent:7.0f}/s")
    batches = [json.dumps([event(b * 1_000 + turn) for turn in range(1_000)]).encode() for b in range(200)]
    took, spent = asyncio.run(load(port, 4, "/v1/events", batches, 202, seconds))
    print(f"events in batches of 1000               {len(took) * 1_000 / spent:7.0f}/s")


def on_postgresql(folder: Path, items: int, seconds: float) -> None:
    """Print the figures of events on PostgreSQL, one worker, with what a batch of a thousand costs it."""
    bundle = write_bundle(folder / "small", items)
    with (
        new_database() as url,
        running_server(bundle, folder / "spool.sqlite", database=url) as server,
    ):
        print(f"\nPostgreSQL ({items} items, one worker)")
        before = cpu_s(server.pid)
        take_in(server.port, seconds, items)
        print(f"CPU of the worker {cpu_s(server.pid) - before:.2f} s; load average {os.getloadavg()[0]:.0f}")


def test_events_on_postgresql(tmp_path: Path) -> None:
    on_postgresql(tmp_path, 1_000, 5.0)


def test_speed_of_the_endpoint_beside_a_bare_composite(tmp_path: Path) -> None:
    bench(tmp_path, 100_000, 2.0, 2, 5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgresql", action="store_true", help="events on PostgreSQL alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if asked.postgresql:
            on_postgresql(Path(scratch), 1_000, asked.seconds)
            raise SystemExit
        bench(Path(scratch), asked.items, asked.seconds, asked.workers, asked.rounds)
