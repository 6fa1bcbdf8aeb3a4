"""A shelf for `recsys evaluate --log`: two baselines and what one of them logged, and the command asked about them."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from typer.testing import CliRunner

from pipelines.cli import app
from recsys.artifacts.registry import Registry
from recsys.config import ExplorationConfig
from recsys.policies.popularity import Popularity
from recsys.recommender import load_recommender
from tests.evaluation.replay.served_log import served_log, world
from tests.factories import write_policy_bundle

ITEMS = 12
RULE = world(ITEMS)


def made_shelf(root: Path) -> Path:
    """A registry with a champion and a better challenger, and the champion's log."""
    noise = np.random.default_rng(3).normal(size=ITEMS)
    registry = Registry(root / "registry")
    for alias, scores in (("champion", 5 + noise), ("challenger", 5 + 0.7 * noise + 4 * (RULE.appeal - 0.3))):
        policy = Popularity().restore({"popularity": scores.astype(np.float32)})
        folder = write_policy_bundle(
            root / alias, policy, ITEMS, candidates=ITEMS, exploration=ExplorationConfig(temperature=0.6)
        )
        (folder / "evaluation.json").write_text(json.dumps({"trained_until": "2020-01-01T00:00:00+00:00"}))
        registry.set_alias("metaq", alias, registry.publish(folder, "metaq"))
    log = served_log(load_recommender(registry.resolve("metaq", "champion")), RULE, users=500)
    (root / "log" / "events").mkdir(parents=True)
    pq.write_table(log, root / "log" / "events" / "part-00000.parquet")
    return root


def run(shelf: Path, *arguments: str) -> tuple[int, str]:
    where = ["--registry", str(shelf / "registry"), "--out", str(shelf / "out")]
    done = CliRunner().invoke(app, ["evaluate", *where, *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return 2, str(done.exception)
    return done.exit_code, done.output
