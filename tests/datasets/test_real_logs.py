"""The published logs themselves, where RECSYS_DATA names a folder that holds them; counts as published.

Expected below it: online-retail/, complete-journey/, ml-100k/ (u.data …), ml-1m/ (ratings.dat …),
open-bandit/.
"""

import os
from pathlib import Path

import pytest

from recsys.config import LogConfig, PrepareConfig, RewardConfig, SplitConfig
from recsys.errors import UserError
from recsys.logs.prepare import prepare

ROOT = os.environ.get("RECSYS_DATA")
REWARD = RewardConfig(base={"impression": 0, "click": 0.2, "purchase": 1, "cancellation": -1, "rating": 0})


@pytest.mark.skipif(ROOT is None, reason="RECSYS_DATA is not set")
@pytest.mark.parametrize(
    ("kind", "folder", "rows", "items"),
    [
        ("online-retail", "online-retail", 541_909, 3_812),
        ("complete-journey", "complete-journey", 75_000, 92_331),
        ("movielens", "ml-100k", 100_000, 1_682),
        ("movielens", "ml-1m", 1_000_209, 3_883),
        ("open-bandit", "open-bandit/random/men", 10_000, 34),
        ("open-bandit", "open-bandit/bts/women", 10_000, 46),
    ],
)
def test_published_logs_are_read_whole(tmp_path, kind, folder, rows, items):
    log = LogConfig(format=kind, path=Path(str(ROOT)) / folder)
    config = PrepareConfig(log=log, split=SplitConfig(kind="users"), reward=REWARD)
    try:
        info = prepare(config, 7, tmp_path)
    except UserError as error:
        if any(reason in str(error) for reason in ("no folder at", "has no u.data")):
            pytest.skip(f"not there, or not in its official layout: {error}")
        raise
    clicks = info.events - rows if kind == "open-bandit" else 0
    assert (info.rows_read, info.items) == (rows, items)
    assert info.events - clicks + sum(info.quarantined.values()) + sum(info.removed_by_rule.values()) == rows
