"""What the console costs the endpoint: off, on with nobody looking, and on with somebody at it; `make bench` runs it.

    python -m tests.benchmarks.bench_console [--items 20000] [--seconds 2] [--rounds 8]

Three endpoints of one worker stand ready at once and take turns under the same load; ratios are medians over turns of
the same turn's figures. Somebody at it means: the operations page open, which reads figures and the live estimate every
two seconds and so keeps the estimate going, and a list tried anew every second.
"""

import argparse
import asyncio
import itertools
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np

from tests.benchmarks.bench_endpoint import EVENTS_PER_USER, USERS, N, cpu_s, load, write_bundle
from tests.serving.server import Server, running_server

CONTESTANTS = {"console off": "off", "on, nobody looks": "on", "on, somebody at it": "on"}


@contextmanager
def somebody(server: Server, items: int) -> Iterator[None]:
    """Look at the operations page and try lists until it is left."""
    over = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as http:
            for second in itertools.count():
                liked = [f"i{(second * 37 + turn * 11) % items}" for turn in range(second % 4)]
                http.post("/console/api/preview", json={"liked": liked}).raise_for_status()
                if second % 2 == 0:
                    http.get("/console/api/operations").raise_for_status()
                    http.get("/console/api/estimate").raise_for_status()
                if over.wait(1.0):
                    return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def turn(server: Server, asks: list[bytes], connections: int, seconds: float) -> tuple[float, float, float]:
    """Return p50 and p99 in ms and the server's CPU ms a list of one turn."""
    before = cpu_s(server.pid)
    took, _ = asyncio.run(load(server.port, connections, "/v1/recommend", asks, 200, seconds))
    p50, p99 = np.percentile(np.array(took) * 1e3, [50, 99])
    return float(p50), float(p99), (cpu_s(server.pid) - before) / len(took) * 1e3


def bench(folder: Path, items: int, seconds: float, rounds: int) -> None:
    """Print figures and ratios."""
    bundle = write_bundle(folder / "bundle", items)
    asks = [f'{{"user": "u{user}", "n": {N}}}'.encode() for user in range(USERS)]
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                running_server(bundle, folder / f"{place}.sqlite", console=console, remembered=0)
            )
            for place, (name, console) in enumerate(CONTESTANTS.items())
        }
        for server in servers.values():
            for user in range(USERS):
                events = [
                    {"user": f"u{user}", "item_id": f"i{(user * 7 + n * 131) % items}", "event_type": "click"}
                    for n in range(EVENTS_PER_USER)
                ]
                assert httpx.post(f"{server.url}/v1/events", json=events).status_code == 202
            turn(server, asks, 1, 1.0)  # warm
        stack.enter_context(somebody(servers["on, somebody at it"], items))
        print(
            f"\n{items} items, one worker each, every list adapted anew, n = {N}, {rounds} turns of {seconds:g} s"
        )
        for connections in (1, 4):
            figures = {name: np.empty((rounds, 3)) for name in servers}
            for number in range(rounds):
                for name in np.random.default_rng(number).permutation(list(servers)):
                    figures[name][number] = turn(servers[name], asks, connections, seconds)
            told(figures, connections)
        estimate = httpx.get(f"{servers['on, somebody at it'].url}/console/api/estimate").json()
        print(f"lists that the estimate had replayed by then: {estimate['lists']}")


def told(figures: dict[str, np.ndarray], connections: int) -> None:
    """Print medians over the turns, and ratios to the first."""
    first = next(iter(figures.values()))
    print(
        f"\n{connections} connection(s)        p50 ms   p99 ms   CPU ms a list   ratio of p50    p99    CPU"
    )
    for name, each in figures.items():
        p50, p99, cpu = np.median(each, axis=0)
        ratio = np.median(each / first, axis=0)
        print(f"{name:20} {p50:9.2f} {p99:8.2f} {cpu:15.2f} {ratio[0]:14.3f} {ratio[1]:6.2f} {ratio[2]:6.3f}")


def test_the_console_costs_the_endpoint_next_to_nothing(tmp_path: Path) -> None:
    bench(tmp_path, 20_000, 2.0, 8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench(Path(scratch), asked.items, asked.seconds, asked.rounds)
