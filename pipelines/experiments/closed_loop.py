"""The loop in a world with known rules: a weak champion serves simulated users over HTTP, rounds of `improve` follow.

    python -m pipelines.experiments.closed_loop [--lists 10000] [--rounds retrain,…] [--seed 7] [--tireless]

The endpoint is a process of its own. Every round serves a fresh audience, then improves; the table holds what users
earned under each champion, what replay said of the next one before it was let in, and what its users then earned more.
Another thread asks all the while, and answers that are no lists are counted. Ends with 1 if there is one.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from pipelines.baseline import make
from pipelines.configuration import resolve_config
from pipelines.experiments.audience import Audience, Served
from pipelines.experiments.command import run_command
from pipelines.improve import improve
from pipelines.loop_round import Asked
from recsys.artifacts.journal import Journal
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_files import write_log
from recsys.logs.simulator_policies import LoggingSettings

WORLD = replace(WorldSettings(), items=24, types=4, topics=4, segments=2)
TIRELESS = replace(
    WORLD, freshness=(1.0,) * 4, trust_step=(0, 0, 0)
)  # what is shown has no effect on what comes later
SETTINGS = (
    "prepare.split.test_from=none",
    "prepare.split.validation_share=0.15",
    "state.max_events=30",
    "model.hidden=32",
    "model.item_features=24",
    "memory.features=16",
    "pretrain.epochs=6",
    "pretrain.discount=0.3",
    "pretrain.temperature=0.05",  # at .1 the cross-entropy spreads Q over twice the returns there are: refused
    "pretrain.td_weight=5.0",
    "pretrain.warmup_epochs=2",
    "pretrain.batch_size=32",
    "metatrain.epochs=3",
    "metatrain.batch_size=32",
    "distill.epochs=4",
    "distill.hidden=32",
    "index.candidates=24",
    "exploration.temperature=0.08",
    "baseline.kind=popularity",
    'baseline.options={count = "events"}',
    "baseline.temperature=1.0",
    "improve.include_seen=true",
    "improve.holdout_share=0.4",
    "improve.min_new_lists=500",
    "improve.max_p95_ms=500",
)


@dataclass(frozen=True)
class Stage:
    """One champion and what came of it."""

    champion: str
    served: Served
    line: dict[str, Any]  # of the journal, of the round that followed


def experiment(
    folder: Path, rules: WorldSettings, lists: int, rounds: Sequence[str], seed: int, console: Console
) -> tuple[list[Stage], list[int]]:
    """Return the stages, the last one after the last round, and the status of every answer to the other process."""
    world = make_world(rules, seed)
    write_log(world, LoggingSettings(temperature=2.0), users=60, seed=seed, out=folder / "base")
    own = (
        f"output={folder / 'runs'}",
        f"prepare.log.path={folder / 'base'}",
        f"publish.registry={folder / 'registry'}",
    )
    config = resolve_config("smoke", [f"seed={seed}", *own, *SETTINGS])
    make(config, console, promote=True, force=False)
    store = folder / "store.sqlite"
    with (
        endpoint(config, store) as url,
        asking_all_the_while(url) as statuses,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        stages = [
            _stage(world, http, config, store, lists, how, number, seed, console)
            for number, how in enumerate((*rounds, ""))
        ]
    return stages, statuses


def _stage(
    world: World,
    http: httpx.Client,
    config: RunConfig,
    store: Path,
    lists: int,
    how: str,
    number: int,
    seed: int,
    console: Console,
) -> Stage:
    registry, name = Registry(config.publish.registry), config.publish.name
    champion = registry.aliases(name)["champion"]
    served = Audience(world, http, 150, seed * 100 + number, f"s{number}", told=True).ask(lists)
    if set(served.model) != {champion}:
        raise RuntimeError(f"{champion} is the champion, but {set(served.model)} answered")
    if not how:
        return Stage(champion, served, {})
    asked = config.model_copy(update={"improve": config.improve.model_copy(update={"how": how})})
    try:
        improve(asked, Asked(store=str(store)), console)
    except UserError as error:  # such as fine-tuning where the champion is still a baseline
        return Stage(champion, served, {"how": how, "did": f"error: {error}"})
    until = time.monotonic() + 30
    while http.post("/v1/recommend", json={"n": 1}).json()["model"] != registry.aliases(name)["champion"]:
        if time.monotonic() > until:
            raise RuntimeError("the endpoint does not follow the alias")
        time.sleep(0.05)
    return Stage(champion, served, Journal(registry.root / name).lines()[-1])


@contextmanager
def endpoint(config: RunConfig, store: Path) -> Iterator[str]:
    """Serve a registry from a process of its own; give the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = {
        "REGISTRY": config.publish.registry,
        "NAME": config.publish.name,
        "STORE": store,
        "AUTH": "off",
        "LOG": "off",
    }
    environment = (
        os.environ
        | {f"RECSYS_{name}": str(value) for name, value in where.items()}
        | {"OMP_NUM_THREADS": "1"}
    )
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "serving.app:create_app",
        "--no-access-log",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603 - our own words
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the endpoint does not start")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def asking_all_the_while(url: str) -> Iterator[list[int]]:
    """Ask for lists from another thread, through every swap."""
    done, statuses = threading.Event(), []

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while not done.wait(0.1):
                statuses.append(http.post("/v1/recommend", json={"n": 3}).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        done.set()
        thread.join()


def mean_and_error(served: Served) -> tuple[float, float]:
    """Return the mean reward of a list and its standard error, users as clusters."""
    lists, reward = served.by_user().T
    mean = reward.sum() / lists.sum()
    return float(mean), float(np.sqrt(((reward - mean * lists) ** 2).sum()) / lists.sum())


def print_table(stages: Sequence[Stage]) -> None:
    """Print what users earned, what replay said, what came of it."""
    titles = (
        "champion",
        "reward a list",
        "challenger by",
        "replay said of it",
        "gate",
        "users then earned more",
    )
    print(f"| {' | '.join(titles)} |")
    print("|---|---|---|---|---|---|")
    for stage, after in zip(stages, [*stages[1:], None], strict=True):
        mean, error = mean_and_error(stage.served)
        row = [stage.champion, f"{mean:.4f} ± {1.96 * error:.4f}"]
        if after is not None:
            gap = stage.line.get("difference")
            said = "" if gap is None else f"{gap['value']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
            row += [str(stage.line.get("how", "")), said, str(stage.line["did"])]
            later, other = mean_and_error(after.served)
            moved = after.champion != stage.champion
            row.append(f"{later - mean:+.4f} ± {1.96 * np.hypot(error, other):.4f}" if moved else "")
        print(f"| {' | '.join([*row, *[''] * (6 - len(row))])} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lists", type=int, default=10_000)
    parser.add_argument("--rounds", default="retrain,retrain,finetune")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tireless", action="store_true", help="users do not tire of topics, nor lose trust")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        stages, statuses = experiment(
            folder,
            TIRELESS if asked.tireless else WORLD,
            asked.lists,
            asked.rounds.split(","),
            asked.seed,
            Console(stderr=True),
        )
    print_table(stages)
    failed = sum(status != 200 for status in statuses)
    print(f"{len(statuses):,} lists asked for meanwhile, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
