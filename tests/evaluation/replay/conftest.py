"""Two served baselines over one small catalogue, and a log that the first one made."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.config import ExplorationConfig
from recsys.policies.popularity import Popularity
from recsys.recommender import Recommender, load_recommender
from tests.evaluation.replay.served_log import World, served_log, world
from tests.factories import write_policy_bundle

ITEMS = 12


def bundle(folder: Path, scores: np.ndarray, temperature: float = 0.6, **options: object) -> Recommender:
    policy = Popularity().restore({"popularity": scores.astype(np.float32)})
    exploration = ExplorationConfig(temperature=temperature)
    made = write_policy_bundle(
        folder, policy, len(scores), candidates=len(scores), exploration=exploration, **options
    )  # type: ignore[arg-type]
    return load_recommender(made)


@dataclass
class Shop:
    champion: Recommender
    better: Recommender
    rule: World
    log: pa.Table
    logged_value: float  # expected clicks of a logged list
    better_value: float  # … of a list of the better policy for the same requests
    folder: Path = field(default_factory=Path)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    rule = world(ITEMS)
    noise = np.random.default_rng(3).normal(size=ITEMS)
    champion = bundle(folder / "champion", 5 + noise)
    better = bundle(folder / "better", 5 + 0.7 * noise + 4.0 * (rule.appeal - rule.appeal.mean()))
    logged: list[float] = []
    played: list[float] = []
    log = served_log(champion, rule, users=700, value=logged, other=better, other_value=played)
    return Shop(champion, better, rule, log, float(np.mean(logged)), float(np.mean(played)), folder)
