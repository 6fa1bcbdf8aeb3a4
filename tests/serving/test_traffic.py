"""What the loop reads of a running endpoint's store, on both engines: all that was logged, nobody who was forgotten."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.traffic import traffic
from recsys import columns as c
from recsys.artifacts.registry import Registry
from recsys.evaluation.replay.log import from_parquet, requests_of
from recsys.evaluation.replay.tally import Vocabulary
from tests.factories import write_tiny_bundle
from tests.serving.app_client import AppClient
from tests.serving.databases import new_database


@pytest.fixture(params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, make_client: Callable[..., AppClient], tmp_path: Path
) -> Iterator[tuple[AppClient, str]]:
    """An endpoint and the address of its store."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield make_client(deadline_ms=20_000), str(tmp_path / "store.sqlite")
        else:
            url = stack.enter_context(new_database())
            yield make_client(database=url, deadline_ms=20_000), url


def read(
    store: str, folder: Path
) -> tuple[list[dict[str, object]], dict[str, dict[str, str]], dict[str, object]]:
    with traffic(None, store, folder, 30.0) as live:
        rows = [
            row
            for part in sorted((live.folder / "events").glob("*"))
            for row in pq.read_table(part).to_pylist()
        ]
        assert live.events == len(rows)
        lists = {row[c.RECOMMENDATION_ID] for row in rows if row[c.EVENT_TYPE] == c.IMPRESSION}
        assert live.lists == len(lists) == len(live.list_times)
        frames = list(from_parquet(live.folder))
        assert (
            sum(len(requests_of(frame, Vocabulary().codes(frame[c.ITEM_ID]))) for frame in frames)
            == live.lists
        )
        told, items = dict(live.attributes), {item: dict(fields) for item, fields in live.items.items()}
    assert not folder.exists()
    return rows, told, items  # type: ignore[return-value]


def test_the_reading_is_the_export_and_forgets_whom_the_store_forgot(
    served: tuple[AppClient, str], tmp_path: Path, click: Callable[..., dict[str, object]]
) -> None:
    client, store = served
    for user in ("ann", "bob"):
        shown = client.post("/v1/recommend", json={"user": user, "n": 3}).json()
        told = click(user, recommendation_id=shown["recommendation_id"], event_id=f"{user}-1")
        assert client.post("/v1/events", json=[told, click(user, 2, event_id=f"{user}-2")]).status_code == 202
    client.post("/v1/recommend", json={"user": "bob", "n": 2, "filter": {"categories": {"any": ["group 1"]}}})
    client.put("/v1/users/bob", json={"attributes": {"country": "UK"}})
    client.put("/v1/items/new", json={"title": "New", "categories": ["group 1"]})
    rows, told_of, items = read(store, tmp_path / "reading")
    exported = [json.loads(line) for line in client.get("/v1/export").text.splitlines()]
    assert {row[c.EVENT_ID] for row in rows} == {row[c.EVENT_ID] for row in exported}
    assert all(row[c.SESSION_ID] for row in rows)
    by_id = {row[c.EVENT_ID]: row for row in exported}
    for row in rows:
        for name in (c.USER_ID, c.ITEM_ID, c.EVENT_TYPE, c.PROPENSITY, c.POSITION, c.POLICY_VERSION):
            assert row[name] == by_id[row[c.EVENT_ID]][name]
    assert told_of == {"bob": {"country": "UK"}}
    assert items["new"]["title"] == "New"
    # a filter is known to replay, so that both sides are held to it
    filters = [json.loads(str(row["request"])).get("filter") for row in rows if row["request"]]
    assert sum(found is not None for found in filters) == 1
    client.delete("/v1/users/bob")
    rows, told_of, _ = read(store, tmp_path / "reading")
    assert {row[c.USER_ID] for row in rows} == {"ann"}
    assert told_of == {}


def test_a_canary_by_alias_follows_the_alias(
    make_client: Callable[..., AppClient], bundle: Path, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    first = registry.publish(bundle, "metaq")
    second, third = (registry.publish(write_tiny_bundle(tmp_path / f"b{n}", seed=n), "metaq") for n in (5, 6))
    registry.set_alias("metaq", "champion", first)
    registry.set_alias("metaq", "challenger", second)
    client = make_client(bundle=None, registry=registry.root, refresh_s=0.02, deadline_ms=20_000)
    variants = [{"name": "new", "model": "challenger"}]
    assert client.put("/v1/experiments/canary", json={"variants": variants}).status_code == 200

    def model() -> str:
        return str(client.post("/v1/recommend", json={"user": "u", "n": 1}).json()["model"])

    assert model() == second
    registry.set_alias("metaq", "challenger", third)
    client.run(asyncio.sleep(0.5))
    assert model() == third
    registry.set_alias("metaq", "champion", second)
    client.run(asyncio.sleep(0.5))
    metrics = client.get("/metrics").text  # tells what was followed too
    assert f'role="champion",version="{second}"' in metrics
    assert f'role="variant",version="{third}"' in metrics
