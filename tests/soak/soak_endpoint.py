"""What takes long: kills under load, swaps under load, an hour of simulated users; `make soak` runs it.

    python -m tests.soak.soak_endpoint [--kills 200] [--swaps 100] [--minutes 60] [--rate 0]

Ends with 1 and says so if an acknowledged event is lost or doubled, a request fails during a swap, an answer holds
another version's list, or memory or latency of the soak rise: the last fifth against the second. A rate bounds the
lists a second of the simulated users, so that an hour fits beside other work.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, nullcontext
from pathlib import Path

import httpx
import numpy as np
import psycopg

from recsys.artifacts.registry import Registry
from recsys.recommender import load_recommender
from serving.event_log import from_row, replay
from tests.factories import write_tiny_bundle
from tests.serving.databases import new_database
from tests.serving.server import running_server
from tests.soak.forked_server import ForkedServer, fork_server

MOST_GROWTH_MIB = 30.0
MOST_SLOWER = 1.5


def event(user: str, item: int, event_id: str) -> dict[str, object]:
    return {"user": user, "item_id": f"i{item % 40}", "event_type": "click", "event_id": event_id}


async def write_until_dead(url: str, mark: str, accepted: list[str]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        number = 0
        try:
            while True:
                batch = [event("k", number + i, f"{mark}-{number + i}") for i in range(5)]
                if (await http.post("/v1/events", json=batch)).status_code == 202:
                    accepted += [one["event_id"] for one in batch]
                number += 5
        except httpx.TransportError:
            return


def kills(bundle: Path, folder: Path, count: int, engine: str) -> str | None:
    """Kill a server under write load again and again; return what is wrong in the end."""
    accepted: list[str] = []
    with new_database() if engine == "postgresql" else nullcontext(None) as url:
        options = {} if url is None else {"database": url}
        for turn in range(count):
            server = fork_server(bundle, folder / f"{engine}.sqlite", **options)
            server.wait_until_ready()
            asyncio.run(_load_and_kill(server, f"{turn}", accepted))
            if turn % 20 == 19:
                print(f"{engine}: {turn + 1} kills, {len(accepted)} acknowledged", flush=True)
        kept = _event_ids(folder / f"{engine}.sqlite", url)
    lost, doubled = len(set(accepted) - set(kept)), len(kept) - len(set(kept))
    print(
        f"{engine}: {count} kills, {len(accepted)} acknowledged events, {lost} lost, {doubled} doubled",
        flush=True,
    )
    return f"{engine}: {lost} lost, {doubled} doubled" if lost or doubled else None


async def _load_and_kill(server: ForkedServer, mark: str, accepted: list[str]) -> None:
    writers = [asyncio.create_task(write_until_dead(server.url, f"{mark}-{n}", accepted)) for n in range(4)]
    before, patience = len(accepted), time.monotonic() + 10
    while len(accepted) == before and time.monotonic() < patience:
        await asyncio.sleep(0.005)
    await asyncio.sleep(random.uniform(0.0, 0.5))
    server.kill()
    await asyncio.gather(*writers)


def _event_ids(file: Path, url: str | None) -> list[str]:
    if url is None:
        with closing(sqlite3.connect(file)) as connection:
            return [row[0] for row in connection.execute("SELECT event_id FROM events")]
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT event_id FROM events")]


def swaps(folder: Path, count: int) -> str | None:
    """Activate one version and the other in turn under load, half of the times by rolling back."""
    registry = Registry(folder / "registry")
    made = [write_tiny_bundle(folder / f"b{seed}", seed=seed) for seed in (1, 2)]
    versions = [registry.publish(one, "metaq") for one in made]
    registry.set_alias("metaq", "champion", versions[0])
    store = folder / "swaps.sqlite"
    answers: list[dict] = []
    failed: list[str] = []
    with running_server(None, store, registry=folder / "registry") as server:

        async def storm() -> None:
            done = asyncio.Event()

            async def ask(number: int) -> None:
                async with httpx.AsyncClient(base_url=server.url, timeout=10) as http:
                    while not done.is_set():
                        answer = await http.post("/v1/recommend", json={"user": f"u{number}", "n": 5})
                        (
                            answers.append(answer.json())
                            if answer.status_code == 200
                            else failed.append(answer.text)
                        )

            asking = [asyncio.create_task(ask(number)) for number in range(4)]
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
                for turn in range(count):
                    path = "rollback" if turn % 2 else f"{versions[1]}/activate"
                    moved = await http.post(f"/v1/models/{path}")
                    if moved.status_code != 200:
                        failed.append(moved.text)
                    await asyncio.sleep(0.05)
            done.set()
            await asyncio.gather(*asking)

        asyncio.run(storm())
    models = {version: load_recommender(registry.resolve("metaq", version)) for version in versions}
    mixed = 0
    with closing(sqlite3.connect(store)) as connection:
        lines = {row[0]: row for row in connection.execute("SELECT * FROM impressions")}
    for answer in answers:
        line = from_row(lines[answer["recommendation_id"]])
        model = models[answer["model"]]
        shown = [item["item_id"] for item in answer["items"]]
        mixed += model.catalogue.ids(replay(model, line).items) != shown
    print(f"{count} swaps, {len(answers)} lists replayed, {len(failed)} failed, {mixed} mixed")
    return f"{len(failed)} failed, {mixed} mixed: {failed[:1]}" if failed or mixed else None


def soak(bundle: Path, folder: Path, minutes: float, rate: float = 0.0) -> str | None:
    """Let simulated users come, look, click and leave; return what grew."""
    windows: list[tuple[float, float, float]] = []  # p50 ms, MiB, p99 ms
    with running_server(bundle, folder / "soak.sqlite") as server:
        started = time.monotonic()
        until = started + minutes * 60
        each = minutes * 60 / 10
        with httpx.Client(base_url=server.url, timeout=10) as http:
            number = 0
            while time.monotonic() < until:
                took, ends = [], time.monotonic() + each
                while time.monotonic() < min(ends, until):
                    user = f"u{random.randrange(5_000)}"
                    began = time.perf_counter()
                    answer = http.post("/v1/recommend", json={"user": user, "n": 10})
                    took.append(time.perf_counter() - began)
                    answer.raise_for_status()
                    item = random.choice(answer.json()["items"])["item_id"]
                    told = event(user, 0, f"s{number}") | {"item_id": item}
                    http.post("/v1/events", json=told).raise_for_status()
                    number += 1
                    if rate:
                        time.sleep(max(0.0, started + number / rate - time.monotonic()))
                    if number % 500 == 0:
                        http.put(f"/v1/items/n{number // 500 % 50}", json={"title": f"Item {number % 40}"})
                        http.delete(f"/v1/users/u{random.randrange(5_000)}").raise_for_status()
                rss = Path(f"/proc/{server.pid}/status").read_text().split("VmRSS:")[1].split()[0]
                p50, p99 = np.percentile(np.array(took) * 1e3, [50, 99])
                windows.append((float(p50), int(rss) / 1024, float(p99)))
                print(
                    json.dumps({"lists": number, "p50_ms": p50, "p99_ms": p99, "mib": windows[-1][1]}),
                    flush=True,
                )
    early, late = np.array(windows[2:4]).mean(axis=0), np.array(windows[-2:]).mean(axis=0)
    print(
        f"{minutes:g} minutes, {number} lists: p50 {early[0]:.2f} -> {late[0]:.2f} ms, "
        f"{early[1]:.0f} -> {late[1]:.0f} MiB"
    )
    grew = late[1] - early[1] > MOST_GROWTH_MIB or late[0] > MOST_SLOWER * early[0]
    return "memory or latency grew" if grew else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--engines", default="sqlite,postgresql", help="of the kills")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=0.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = write_tiny_bundle(folder / "bundle")
        wrong = [
            *(
                [kills(bundle, folder, asked.kills, engine) for engine in asked.engines.split(",")]
                if asked.kills
                else []
            ),
            swaps(folder, asked.swaps) if asked.swaps else None,
            soak(bundle, folder, asked.minutes, asked.rate) if asked.minutes else None,
        ]
    told = [each for each in wrong if each is not None]
    if told:
        sys.exit("; ".join(told))


if __name__ == "__main__":
    main()
