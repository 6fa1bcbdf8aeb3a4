"""Every job on a real cluster of node processes, one of which is killed in the middle: each ends as on one machine."""

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'metaq[ray]'")

from pipelines.configuration import resolve_config
from pipelines.manifest import artifact_digest
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from pipelines.tuning.tune import tune
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig
from tests.factories import write_tiny_bundle
from tests.on_ray.ray_nodes import Nodes, running_nodes
from tests.pipelines.bad_logs import TOML, log, write_events
from tests.pipelines.tuning_log import run_inline, write_tuning_log
from tests.serving.databases import new_database
from tests.serving.server import free_port

LONG = bool(os.environ.get("RECSYS_TEST_LONG"))  # as `make soak` sets it: what takes another start of workers
SILENT = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running_nodes(3) as started:
        yield started


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A tiny log in four parts, with duplicates and a refused row, in many small buckets; prepared here."""
    home = tmp_path_factory.mktemp("log")
    rows = log(users=60, events=8, items=20)
    write_events(home / "log", rows)
    table = pq.read_table(home / "log" / "events.parquet")
    (home / "log" / "events.parquet").unlink()
    (home / "log" / "events").mkdir()
    broken = table.slice(5, 1).set_column(
        table.column_names.index("item_id"), "item_id", pa.array([None], pa.string())
    )
    table = pa.concat_tables([table, table.slice(0, 3), broken])
    for part in range(4):
        pq.write_table(table.slice(part * 121, 121), home / "log" / "events" / f"part-{part}.parquet")
    text = TOML.format(home=home, split="users", tables="", prepare="", bad_share=0.5)
    (home / "tiny.toml").write_text(text)
    return resolve_config(
        str(home / "tiny.toml"),
        ["prepare.log.rows_per_bucket=60", "pretrain.epochs=4", "pretrain.patience=9"],
    )


def here(config: RunConfig, name: str) -> Path:
    run_steps(config.model_copy(update={"name": name}), all_steps(), ("prepare",), SILENT)
    return config.output / name / "prepare"


def contents(prepared: Path) -> dict[str, object]:
    """Return every file's bytes; the event table as a whole, whose cut into parts may differ; refused rows sorted."""
    found: dict[str, object] = {
        str(path.relative_to(prepared)): path.read_bytes()
        for path in sorted(prepared.rglob("*.npy"))
        + [prepared / n for n in ("items.parquet", "users.parquet")]
    }
    found["events"] = pq.read_table(prepared / "events").combine_chunks()
    found["quarantine"] = sorted((prepared / "quarantine.csv").read_text().splitlines())
    return found | {"prepared.json": json.loads((prepared / "prepared.json").read_text())}


def test_prepare_writes_the_same_bytes_though_a_node_dies(nodes: Nodes, config: RunConfig) -> None:
    from pipelines.on_ray.steps import steps_on_ray

    expected = here(config, "here")
    there = config.model_copy(update={"name": "there"})
    folder = config.output / "there"

    def reading() -> bool:
        return any(folder.glob(".tmp-prepare/.scratch-*/read/*/facts.json"))

    with nodes.one_killed_when(reading, "ray::") as killed:
        run_steps(there, steps_on_ray(all_steps(), 1), ("prepare",), SILENT)
    assert killed
    assert contents(folder / "prepare") == contents(expected)
    assert json.loads((expected / "prepared.json").read_text())["quarantined"] == {
        "duplicate event id": 3,
        "missing item id": 1,
    }


def test_two_workers_train_as_well_as_one_though_a_node_dies(nodes: Nodes, config: RunConfig) -> None:
    from pipelines.on_ray.steps import steps_on_ray

    alone = config.model_copy(update={"name": "alone"})
    one = run_steps(alone, all_steps(), ("pretrain",), SILENT)[-1].summary
    pair, said = config.model_copy(update={"name": "pair"}), io.StringIO()
    folder = config.output / "pair"

    def first_epoch_done() -> bool:
        return any(folder.glob(".unfinished-pretrain/*/training.safetensors"))

    with nodes.one_killed_when(first_epoch_done, "Train") as killed:
        two = run_steps(pair, steps_on_ray(all_steps(), 2), ("pretrain",), Console(file=said))[-1].summary
    assert killed
    assert "goes on after epoch" in said.getvalue()
    assert two["updates"] == one["updates"]
    assert abs(float(two["validation_ndcg"]) - float(one["validation_ndcg"])) < 0.05
    if not LONG:
        return
    # what was interrupted ends as what was not: chance is a function of the epoch
    undisturbed = config.model_copy(update={"name": "undisturbed"})
    run_steps(undisturbed, steps_on_ray(all_steps(), 2), ("pretrain",), SILENT)
    assert artifact_digest(config.output / "undisturbed" / "pretrain") == artifact_digest(folder / "pretrain")


def test_a_search_finds_what_it_finds_here_though_a_node_dies(nodes: Nodes, tmp_path: Path) -> None:
    from pipelines.on_ray.tuning import run_on_ray

    asked = replace(write_tuning_log(tmp_path), trials=2)
    expected = replace(asked, folder=tmp_path / "here")
    tune(expected, run_inline, SILENT)
    folder = tmp_path / "there"

    def at_work() -> bool:
        return any((folder / "trials").glob("*/config.json"))

    with nodes.one_killed_when(at_work, "ImplicitFunc") as killed:
        tune(replace(asked, folder=folder), partial(run_on_ray, scratch=tmp_path / "ray"), SILENT)
    assert killed
    trials = [
        json.loads((place / "record.json").read_text())["trials"] for place in (folder, tmp_path / "here")
    ]
    assert trials[0] == trials[1]


def test_replicas_answer_and_lose_no_event_though_a_node_dies(nodes: Nodes, tmp_path: Path) -> None:
    from ray import serve

    from pipelines.on_ray.serving import serve_on_ray
    from pipelines.serve import APPLICATION

    registry = Registry(tmp_path / "registry")
    registry.set_alias("metaq", "champion", registry.publish(write_tiny_bundle(tmp_path / "bundle"), "metaq"))
    port = free_port()
    with new_database() as database:
        environment = {
            "RECSYS_REGISTRY": str(tmp_path / "registry"),
            "RECSYS_DATABASE": database,
            "RECSYS_SPOOLS": str(tmp_path / "live"),
            "RECSYS_AUTH": "off",
            "RECSYS_LOG": "off",
        }
        try:
            serve_on_ray(APPLICATION, environment, 2, "127.0.0.1", port, proxies="HeadOnly", block=False)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                _until(lambda: len(nodes.doing("ServeReplica")) == 2)
                accepted = _ask_while_a_node_dies(nodes, client)
                kept = client.get("/v1/users/somebody/events", params={"limit": 1000})
                listed = client.post("/v1/recommend", json={"user": "somebody", "n": 3})
        finally:
            serve.shutdown()
    assert listed.status_code == 200
    assert len(listed.json()["items"]) == 3
    assert {event["event_id"] for event in kept.json()["events"]} >= accepted


def _ask_while_a_node_dies(nodes: Nodes, client: httpx.Client) -> set[str]:
    """Send events before, during and after a node's death; return the ids of those that were accepted."""
    accepted: set[str] = set()
    killer = threading.Thread(target=lambda: nodes.kill(nodes.doing("ServeReplica")[-1]))
    failures = 0
    for number in range(60):
        if number == 20:
            killer.start()
        event = {
            "event_id": f"e{number}",
            "user": "somebody",
            "item_id": f"i{number % 20}",
            "event_type": "click",
        }
        for _ in range(40):  # as the client of the endpoint does, an event is sent again until it is accepted
            try:
                if client.post("/v1/events", json=event).status_code in (200, 201, 202):
                    accepted.add(f"e{number}")
                    break
            except httpx.TransportError:
                pass
            failures += 1
            time.sleep(0.1)
    killer.join()
    nodes.refill()
    assert len(accepted) == 60
    print(f"{failures} requests were sent again")
    return accepted


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
