"""Canaries and shadows without a server: what is asked of the endpoint, and what a canary's users decide."""

import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loop_shop import ITEMS, Shop
from rich.console import Console

from pipelines.improve import improve
from pipelines.loop_round import Asked, Endpoint
from recsys import columns as c
from recsys.config import ExplorationConfig
from recsys.errors import UserError
from recsys.logs.schema import EVENTS
from recsys.policies.popularity import Popularity
from tests.factories import write_policy_bundle


@dataclass(frozen=True)
class Heard(Endpoint):
    """Hears what an endpoint is asked."""

    url: str = "http://nowhere"
    experiments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.asked.append(f"{method} {path}")
        if method == "PUT":
            self.experiments.append({"name": path.rpartition("/")[2], "scenarios": [], **body})
        if method == "DELETE":
            self.experiments.clear()
        return {"experiments": list(self.experiments)}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return Shop(tmp_path_factory.mktemp("first")).log


@pytest.fixture
def shop(tmp_path: Path, log: pa.Table) -> Shop:
    return Shop(tmp_path, log)


def since(shop: Shop, rates: dict[str, float], users: int = 100) -> Path:
    """Write what users did from now on: lists of some versions, clicked at some rates."""
    chance, rows = np.random.default_rng(2), []
    for version, rate in rates.items():
        for user in range(users):
            for number in range(6):
                moment = round(time.time() * 1e6) + 1_000_000 + number
                name = f"{version}-{user}-{number}"
                shared = dict.fromkeys(EVENTS.names) | {
                    c.USER_ID: f"{version}-{user}", c.SESSION_ID: "s", c.ITEM_ID: "i1", c.RECOMMENDATION_ID: name,
                }  # fmt: skip
                shown = {
                    c.EVENT_TYPE: c.IMPRESSION,
                    c.POSITION: 0,
                    c.PROPENSITY: 0.5,
                    c.POLICY_VERSION: f"{version} x",
                }
                rows.append(shared | shown | {c.EVENT_ID: name, c.TIMESTAMP: moment})
                if chance.random() < rate:
                    rows.append(
                        shared | {c.EVENT_TYPE: c.CLICK, c.EVENT_ID: f"c{name}", c.TIMESTAMP: moment + 1}
                    )
    path = shop.root / "since.parquet"
    pq.write_table(pa.Table.from_pylist(rows, EVENTS), path)
    return path


def begun(shop: Shop) -> Heard:
    """Return an endpoint with a canary that a round has begun."""
    shop.journal.write(
        "on trial",
        {"trial": "canary", "champion": shop.champion, "challenger": shop.better, "begun_us": round(time.time() * 1e6)},
    )  # fmt: skip
    return Heard(experiments=[{"name": "canary", "scenarios": []}])


def look(shop: Shop, endpoint: Endpoint, log: Path, *overrides: str) -> tuple[int, str]:
    heard = io.StringIO()
    config = shop.config("improve.canary_min_lists=100", *overrides)
    code = improve(config, Asked(log=log, endpoint=endpoint), Console(file=heard))
    return code, heard.getvalue().splitlines()[-1]


def test_a_canary_begins_only_after_the_gate_and_with_a_share_that_grows_without_moving_users(
    shop: Shop,
) -> None:
    endpoint = Heard()
    assert shop.round(candidate=shop.better, canary=5.0, endpoint=endpoint)[0] == 4
    variants = endpoint.experiments[0]["variants"]
    assert [(each["name"], each["weight"], each.get("model")) for each in variants] == [
        ("champion", 95.0, None), ("challenger", 5.0, shop.better),
    ]  # fmt: skip
    assert endpoint.experiments[0]["salt"] == shop.better
    assert shop.registry.aliases("metaq")["champion"] == shop.champion
    worse = Heard()
    assert (
        shop.round("improve.margin=0.9", candidate=shop.better, canary=5.0, endpoint=worse)[0] == 4
    )  # goes on
    assert worse.asked == ["GET /v1/experiments"]  # whether a canary could begin, and no more


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ((), 3),
        (("improve.canary_when=unsure",), 4),
        (("improve.canary_when=unsure", "improve.max_bundle_mb=0.000001"), 1),
    ],
)
def test_what_the_logs_cannot_say_of_is_tried_only_if_asked_for_and_within_the_limits(
    shop: Shop, overrides: tuple[str, ...], code: int
) -> None:
    folder = write_policy_bundle(
        shop.root / "narrow",
        Popularity().restore({"popularity": -np.arange(ITEMS, dtype=np.float32)}),
        ITEMS,
        candidates=1,  # shows one item always: most of what it shows was hardly ever shown
        exploration=ExplorationConfig(temperature=0.001),
    )
    narrow, endpoint = shop.registry.publish(folder, "metaq"), Heard()
    found, said = shop.round(*overrides, candidate=narrow, canary=5.0, endpoint=endpoint)
    assert found == code
    assert ("cannot say" in said) == (code != 1)
    tried = [each["variants"][1]["model"] for each in endpoint.experiments]
    assert tried == ([narrow] if code == 4 else [])
    assert shop.registry.aliases("metaq")["champion"] == shop.champion


@pytest.mark.parametrize(
    ("rates", "overrides", "code", "says"),
    [
        ((0.6, 0.2), (), 0, "after its canary"),
        ((0.1, 0.4), (), 1, "was worse"),
        ((0.3, 0.3), (), 4, "goes on as a canary"),
        ((0.6, 0.2), ("improve.canary_min_lists=100000",), 4, "goes on as a canary"),
        ((0.3, 0.3), ("improve.canary_hours=0.0000001",), 1, "undecided after"),
        ((0.6, 0.2), ("improve.margin=1.0",), 0, "after its canary"),  # three times as much: doubled and more
    ],
)
def test_its_users_decide(
    shop: Shop, rates: tuple[float, float], overrides: tuple[str, ...], code: int, says: str
) -> None:
    endpoint = begun(shop)
    log = since(shop, {shop.better: rates[0], shop.champion: rates[1]})
    got, said = look(shop, endpoint, log, *overrides)
    assert (got, says in said) == (code, True), said
    assert bool(endpoint.experiments) == (code == 4)
    assert shop.registry.aliases("metaq")["champion"] == (shop.better if code == 0 else shop.champion)
    line = shop.journal.lines()[-1]
    assert line["did"] == {0: "promoted", 1: "kept", 4: "looked"}[code]
    assert line["look"] == 1
    if code == 4:  # a second look asks for more confidence
        first = line["canary"]["difference"]
        look(shop, endpoint, log, *overrides)
        second = shop.journal.lines()[-1]
        assert second["look"] == 2
        assert second["canary"]["difference"]["low"] < first["low"]


def test_a_canary_ends_when_people_move_the_alias(shop: Shop) -> None:
    endpoint = begun(shop)
    other = shop.publish("other", np.arange(12.0))
    shop.registry.set_alias("metaq", "champion", other)
    code, said = look(shop, endpoint, since(shop, {shop.better: 0.9, other: 0.1}))
    assert (code, "people moved the alias" in said) == (1, True)
    assert endpoint.experiments == []


def test_a_shadow_is_judged_again_on_newer_lists(shop: Shop) -> None:
    endpoint = Heard()
    assert shop.round(candidate=shop.better, shadow=True, endpoint=endpoint)[0] == 4
    assert endpoint.asked == [f"POST /v1/models/{shop.better}/shadow"]
    code, said = shop.round(endpoint=endpoint)
    assert (code, "0 new lists" in said) == (3, True)
    assert endpoint.asked[-1] == "DELETE /v1/models/shadow"


def test_users_who_belong_to_another_experiment_are_left_to_it(shop: Shop) -> None:
    endpoint = Heard(experiments=[{"name": "colours", "scenarios": []}])
    with pytest.raises(UserError, match="colours has all users"):
        shop.round(candidate=shop.better, canary=20.0, endpoint=endpoint)
    with pytest.raises(UserError, match="must lie between 0 and 100"):
        shop.round(candidate=shop.better, canary=100.0, endpoint=Heard())
    with pytest.raises(UserError, match="does not answer"):
        Endpoint("http://127.0.0.1:9").ask("GET", "/v1/experiments")
