"""A champion with traffic, and all that a round of the loop needs, without a server."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.improve import improve
from pipelines.loop_round import Asked
from recsys import columns as c
from recsys.artifacts.journal import Journal
from recsys.artifacts.registry import Registry
from recsys.config import ExplorationConfig, RunConfig
from recsys.logs.schema import EVENTS
from recsys.policies.popularity import Popularity
from recsys.recommender import load_recommender
from tests.evaluation.replay.served_log import served_log, world
from tests.factories import write_policy_bundle

ITEMS = 12
RULE = world(ITEMS)


class Shop:
    """A champion, its traffic, and a run's log that is older than the traffic."""

    def __init__(self, root: Path, log: pa.Table | None = None) -> None:
        self.root, self.registry = root, Registry(root / "registry")
        self.chance = np.random.default_rng(3)
        noise = self.chance.normal(size=ITEMS)
        self.champion = self.publish("champion", 5 + noise)
        self.better = self.publish("better", 5 + 0.7 * noise + 4 * (RULE.appeal - 0.3))
        self.registry.set_alias("metaq", "champion", self.champion)
        if log is None:
            log = served_log(load_recommender(self.registry.resolve("metaq", "champion")), RULE, users=500)
        self.log = log
        (root / "log").mkdir()
        pq.write_table(log, root / "log" / "events.parquet")
        (root / "base").mkdir()
        first = pa.Table.from_pylist(
            [
                dict.fromkeys(EVENTS.names)
                | {
                    c.EVENT_ID: f"b{n}",
                    c.USER_ID: f"b{n % 5}",
                    c.SESSION_ID: f"b{n % 5}",
                    c.TIMESTAMP: n,
                    c.ITEM_ID: f"i{n % ITEMS}",
                    c.EVENT_TYPE: c.CLICK,
                }
                for n in range(60)
            ],
            EVENTS,
        )
        pq.write_table(first, root / "base" / "events.parquet")
        pq.write_table(
            pa.table({c.ITEM_ID: [f"i{n}" for n in range(ITEMS)]}), root / "base" / "items.parquet"
        )
        self.journal = Journal(root / "registry" / "metaq")

    def publish(self, name: str, scores: np.ndarray) -> str:
        folder = write_policy_bundle(
            self.root / name, Popularity().restore({"popularity": scores.astype(np.float32)}), ITEMS,
            candidates=ITEMS, exploration=ExplorationConfig(temperature=0.6),
        )  # fmt: skip
        return self.registry.publish(folder, "metaq")

    def config(self, *overrides: str) -> RunConfig:
        return resolve_config("smoke", [f"{key}" for key in (*self.settings(), *overrides)])

    def settings(self) -> list[str]:
        return [
            f"output={self.root / 'runs'}", f"prepare.log.path={self.root / 'base'}",
            f"publish.registry={self.root / 'registry'}", "publish.name=metaq", "improve.how=baseline",
            "baseline.kind=popularity", "baseline.temperature=0.3", "improve.min_new_lists=300",
            "improve.max_p95_ms=1000", "improve.self_test=false",
        ]  # fmt: skip

    def round(self, *overrides: str, **asked: object) -> tuple[int, str]:
        heard = io.StringIO()
        source = {} if "store" in asked else {"log": self.root / "log"}
        code = improve(self.config(*overrides), Asked(**{**source, **asked}), Console(file=heard))  # type: ignore[arg-type]
        return code, heard.getvalue().splitlines()[-1]
