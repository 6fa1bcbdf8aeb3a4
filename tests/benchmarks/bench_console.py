"""What the console costs the endpoint: off, on with nobody looking, and on with somebody at it; `make bench` runs it.

    python -m tests.benchmarks.bench_console [--items 20000] [--seconds 0.5] [--rounds 30]

Three endpoints of one worker stand ready at once and take short turns under the same load, so that what else the
machine does falls on each alike. Somebody at it means: the operations page open, which reads figures and the live
estimate every two seconds and so keeps the estimate going, and a list tried anew every second.
"""

import argparse
import asyncio
import itertools
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Turns:
    """What one contestant came to, turn by turn."""

    took_ms: list[np.ndarray] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def figures(self, turns: np.ndarray) -> np.ndarray:
        """Return p50 and p99 in ms and the server's CPU ms a list, over some turns together."""
        took = np.concatenate([self.took_ms[turn] for turn in turns])
        cpu = sum(self.cpu_ms[turn] for turn in turns)
        return np.array([*np.percentile(took, [50, 99]), cpu / len(took)])


def turn(server: Server, asks: list[bytes], connections: int, seconds: float, into: Turns) -> None:
    """Ask for lists in one turn."""
    before = cpu_s(server.pid)
    took, _ = asyncio.run(load(server.port, connections, "/v1/recommend", asks, 200, seconds))
    into.took_ms.append(np.array(took) * 1e3)
    into.cpu_ms.append((cpu_s(server.pid) - before) * 1e3)


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
            turn(server, asks, 1, 1.0, Turns())  # warm
        stack.enter_context(somebody(servers["on, somebody at it"], items))
        print(
            f"\n{items} items, one worker each, every list adapted anew, n = {N}, {rounds} turns of {seconds:g} s"
        )
        for connections in (1, 4):
            figures = {name: Turns() for name in servers}
            for number in range(rounds):
                for name in np.random.default_rng(number).permutation(list(servers)):
                    turn(servers[name], asks, connections, seconds, figures[name])
            told(figures, connections, rounds)
        estimate = httpx.get(f"{servers['on, somebody at it'].url}/console/api/estimate").json()
        print(f"lists that the estimate had replayed by then: {estimate['lists']}")


def told(figures: dict[str, Turns], connections: int, rounds: int) -> None:
    """Print figures over all turns, and ratios to the first with 95 % intervals from resampled rounds."""
    generator = np.random.default_rng(0)
    drawn = [generator.integers(rounds, size=rounds) for _ in range(300)]
    first = next(iter(figures.values()))
    print(
        f"\n{connections} connection(s)       p50 ms  p99 ms  CPU ms a list   ratios: p50, p99, CPU (95 % intervals)"
    )
    for name, each in figures.items():
        p50, p99, cpu = each.figures(np.arange(rounds))
        ratio = each.figures(np.arange(rounds)) / first.figures(np.arange(rounds))
        low, high = np.percentile(
            [each.figures(turns) / first.figures(turns) for turns in drawn], [2.5, 97.5], axis=0
        )
        said = "  ".join(f"{r:.3f} ({a:.2f}–{b:.2f})" for r, a, b in zip(ratio, low, high, strict=True))
        print(f"{name:19} {p50:8.2f} {p99:7.2f} {cpu:14.2f}   {said}")


def test_the_console_costs_the_endpoint_next_to_nothing(tmp_path: Path) -> None:
    bench(tmp_path, 20_000, 0.5, 30)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench(Path(scratch), asked.items, asked.seconds, asked.rounds)
