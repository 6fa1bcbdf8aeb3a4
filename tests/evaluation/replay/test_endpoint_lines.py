"""The endpoint's own traffic replayed: filters, variants, catalogue, draws and late events as they were."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns as c
from recsys.artifacts.registry import Registry
from recsys.config import ExplorationConfig, RewardConfig
from recsys.errors import UserError
from recsys.evaluation.offline import Report, evaluate_log
from recsys.evaluation.replay.comparison import ReplayOptions
from recsys.evaluation.replay.live_log import from_store
from recsys.evaluation.replay.log import EventSource, from_parquet, from_table
from recsys.evaluation.replay.policies import FunctionPolicy, RandomOf, Request, ServedPolicy
from recsys.evaluation.replay.snapshot import read_export, read_store
from recsys.logs.merged_log import live_alone
from recsys.recommender import load_recommender
from serving.app import create_app
from serving.settings import Settings
from tests.factories import write_tiny_bundle
from tests.serving.app_client import AppClient

OPTIONS = ReplayOptions(reward=RewardConfig(base={"click": 1.0}), assumption="independent")
KINDS = {
    "plackett_luce": ExplorationConfig(temperature=0.05),
    "thompson": ExplorationConfig(kind="thompson", samples=8, epsilon=0.3),
    "epsilon": ExplorationConfig(kind="epsilon", epsilon=0.3),
    "diverse": ExplorationConfig(temperature=0.2, diversity=0.3),
}


@contextmanager
def endpoint(folder: Path, kind: str) -> Iterator[AppClient]:
    registry = Registry(folder / "registry")
    made = write_tiny_bundle(folder / "bundle", exploration=KINDS[kind])
    registry.set_alias("metaq", "champion", registry.publish(made, "metaq"))
    settings = Settings(registry=folder / "registry", store=folder / "live.sqlite", auth="off", refresh_s=60)
    with AppClient(create_app(settings)) as client:
        yield client


def traffic(client: AppClient, users: int = 9) -> None:
    """Ask in every way that a line can tell of, and answer, some of it late."""
    generator = np.random.default_rng(0)
    asks: list[dict[str, object]] = [
        {},
        {"filter": {"categories": {"any": ["group 1", "fresh"]}}},
        {"filter": {"price": {"max": 6.0}}, "exclude": ["i1", "i2"]},
        {"exclude_seen": False, "context": {"country": "UK"}},
        {"scenario": "tried"},
    ]
    variant = {"name": "b", "weight": 1, "exploration": {"kind": "epsilon", "epsilon": 0.5}}
    experiment = {"variants": [variant], "scenarios": ["tried"]}
    assert client.put("/v1/experiments/wild", json=experiment).status_code == 200
    for user in range(users):
        if user == users // 3:
            client.put("/v1/items/n1", json={"title": "Item 4", "categories": ["fresh"], "price": 2.0})
            client.patch("/v1/items/i3", json={"available": False})
        if user == users // 2:
            client.patch("/v1/items/n1", json={"price": 9.0})
        name = f"u{user}"
        for turn, ask in enumerate(asks):
            answer = client.post("/v1/recommend", json={"user": name, "n": 3, **ask})
            assert answer.status_code == 200, answer.text
            shown = answer.json()
            for item in shown["items"]:
                if generator.random() < 0.4:
                    clicked = {"user": name, "item_id": item["item_id"], "event_type": "click"}
                    named = {"recommendation_id": shown["recommendation_id"]}
                    client.post("/v1/events", json={**clicked, **named})
            if turn == 2:  # an event of yesterday that comes only now
                yesterday = {"user": name, "item_id": f"i{10 + user % 20}", "event_type": "purchase"}
                client.post("/v1/events", json={**yesterday, "timestamp": time.time() - 86_400})
        client.get(f"/v1/recommend/next/{shown['recommendation_id']}")
        client.post("/v1/rank", json={"user": name, "items": [f"i{i}" for i in range(8)]})
    client.post("/v1/session/recommend", json={"events": [], "n": 3})
    client.post("/v1/session/recommend", json={"events": [], "n": 3, "session": "a visit"})
    client.post("/v1/recommend", json={"n": 3})
    client.post("/v1/recommend", json={"n": 3, "session": "a visit"})


def exported(client: AppClient, folder: Path) -> Path:
    folder.mkdir()
    for table in ("events", "item_changes", "users"):
        content = client.get(f"/v1/export?format=parquet&table={table}").content
        (folder / f"{table}.parquet").write_bytes(content)
    return folder


def replayed(source: EventSource, folder: Path, **how: object) -> Report:
    policy = ServedPolicy(load_recommender(Registry(folder / "registry").resolve("metaq", "champion")), "own")
    return evaluate_log(source, policy, options=OPTIONS, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_endpoint_drew_is_drawn_again_from_its_store(tmp_path: Path, kind: str) -> None:
    with endpoint(tmp_path, kind) as client:
        traffic(client)
    with closing(sqlite3.connect(tmp_path / "live.sqlite")) as store:
        source = from_store(store)
        assert len(source.changes) == 3
        report = replayed(source, tmp_path, self_test=kind == "thompson")
    tests = {gate.name: gate for gate in report.evaluation.self_tests}
    gate = tests["A/A: propensities recomputed"]
    assert gate.verdict == "pass", gate.says
    assert gate.value is not None
    assert gate.value < 1e-5
    assert "made 63 lists" in gate.says  # 5 ways of asking, the list after, the caller's candidates
    if kind == "thompson":
        assert tests["leak: the future shuffled"].verdict == "pass"


def test_exported_tables_say_the_same_as_the_store(tmp_path: Path) -> None:
    with endpoint(tmp_path, "thompson") as client:
        traffic(client, users=6)
        client.put("/v1/users/u3", json={"attributes": {"country": "UK"}})
        log = exported(client, tmp_path / "log")
    report = replayed(from_parquet(log), tmp_path, self_test=False)
    with closing(sqlite3.connect(tmp_path / "live.sqlite")) as store:
        other = replayed(from_store(store, rows_per_bucket=100), tmp_path, self_test=False)
    gate = {gate.name: gate for gate in report.evaluation.self_tests}["A/A: propensities recomputed"]
    assert gate.verdict == "pass", gate.says
    one = {row.estimator: row.value for row in report.evaluation.estimates}
    two = {row.estimator: row.value for row in other.evaluation.estimates}
    assert one == pytest.approx(two, rel=1e-9)
    told = [each.evaluation.provenance for each in (report, other)]
    for fact in ("events", "lists", "left out", "feedback", "from", "to"):
        assert told[0][fact] == told[1][fact]
    assert told[0]["left out"] == (
        "2 lists of sessions whose events came along and are not kept; "
        "2 lists without a user, to whom no feedback belongs"
    )


def test_the_loop_reads_the_same_from_both_and_counts_nobodys_lists_alike(tmp_path: Path) -> None:
    with endpoint(tmp_path, "plackett_luce") as client:
        traffic(client, users=4)
        log = exported(client, tmp_path / "log")
    with closing(sqlite3.connect(tmp_path / "live.sqlite")) as store:
        logs = [read_store(store, tmp_path / "one", 30.0), read_export(log, tmp_path / "two", 30.0)]
    assert logs[0].events == logs[1].events
    assert logs[0].list_times.tolist() == logs[1].list_times.tolist()
    told = [
        replayed(from_parquet(read.folder), tmp_path, self_test=False).evaluation.provenance for read in logs
    ]
    assert told[0]["lists"] == told[1]["lists"]
    assert told[0]["left out"] == told[1]["left out"]
    assert "2 lists without a user" in str(told[0]["left out"])
    taught = [live_alone(read, tmp_path / f"taught {place}", 2**62) for place, read in enumerate(logs)]
    assert taught[0] == taught[1]


def test_what_may_be_shown_holds_for_every_policy(tmp_path: Path) -> None:
    """Random shows what the request leaves; a function of one's own is told what was asked."""
    with endpoint(tmp_path, "plackett_luce") as client:
        traffic(client, users=8)
    served = ServedPolicy(load_recommender(Registry(tmp_path / "registry").resolve("metaq", "champion")))
    asked: list[Request] = []

    def even(request: Request) -> np.ndarray:
        asked.append(request)
        mask = served.may_show(request)
        return mask[: len(ids)] * 1.0

    ids = tuple(served.item_ids)
    mine = FunctionPolicy("mine", ids, even)
    with closing(sqlite3.connect(tmp_path / "live.sqlite")) as store:
        source = from_store(store)
        report = evaluate_log(source, RandomOf(served), mine, OPTIONS, self_test=False)
    weights = {
        row.policy: row.value for row in report.evaluation.estimates if row.estimator == "ips"
    }  # they differ by the item that was added alone
    assert weights["random"] == pytest.approx(weights["mine"], rel=0.35)
    wanted = [request.ask.wanted for request in asked if request.ask is not None and request.ask.wanted]
    assert wanted
    assert {name for request in asked if request.ask for name in request.ask.exclude} >= {"i1", "i2"}
    assert any(request.ask is not None and request.ask.among for request in asked)


def test_lists_of_the_popular_rung_are_left_out_and_counted(tmp_path: Path) -> None:
    with endpoint(tmp_path, "plackett_luce") as client:
        traffic(client, users=4)
        answer = client.post("/v1/recommend", json={"user": "late", "n": 3, "deadline_ms": 1}).json()
        while answer["served_by"] != "popular":
            client.service.costs.observe("adapted", 10.0)
            client.service.costs.observe("unadapted", 10.0)
            answer = client.post("/v1/recommend", json={"user": "late", "n": 3, "deadline_ms": 1}).json()
    with closing(sqlite3.connect(tmp_path / "live.sqlite")) as store:
        report = replayed(from_store(store), tmp_path, self_test=False)
    assert "1 lists of the popular rung" in str(report.evaluation.provenance["left out"])


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with endpoint(tmp_path, "plackett_luce") as client:
        traffic(client, users=2)
        rows = client.get("/v1/export").text.replace('\\"n\\":3', '\\"m\\":3')
    told = [json.loads(row) for row in rows.splitlines()]
    names = [name for name in told[0] if name != c.EVENT_ID]
    table = pa.Table.from_pylist([{name: row[name] for name in names} for row in told])
    with pytest.raises(UserError, match=r"the request of a list of .* cannot be read"):
        replayed(from_table(table), tmp_path, self_test=False)
