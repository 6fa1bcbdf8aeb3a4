"""The prepare step: what it is made from, and what a refused log leaves to look at."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from pipelines import prepare
from pipelines.runner import Outcome, run_steps
from recsys.config import RunConfig, SplitConfig, validate_config
from recsys.errors import UserError

MAPPING = """
event_type = "purchase"
session_gap_minutes = 30
columns = { user_id = "u", item_id = "i", timestamp = "t" }
items = { path = "cat.csv", id = "i" }
users = { path = "people.csv", id = "u" }
"""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A small log with a mapping that names an item and a user file beside it."""
    beside = tmp_path / "described"
    beside.mkdir()
    (beside / "mine.toml").write_text(MAPPING)
    (beside / "cat.csv").write_text("i,colour\na,red\nb,blue\n")
    (beside / "people.csv").write_text("u,country\n1,UK\n2,DE\n")
    rows = [f"{user},{item},2024-01-0{day}T00:00:00" for user in (1, 2) for item in "ab" for day in (1, 2, 3)]
    (tmp_path / "log.csv").write_text("\n".join(["u,i,t", *rows]) + "\n")
    log = {"format": "file", "path": tmp_path / "log.csv", "mapping": beside / "mine.toml"}
    split = SplitConfig(kind="users").model_dump()
    raw: dict[str, object] = {
        "name": "mine",
        "output": tmp_path / "runs",
        "prepare": {"log": log, "split": split, "content_features": 2},
    }
    return validate_config(raw, "test")


def run(config: RunConfig) -> Outcome:
    return run_steps(config, [prepare.STEP], ["prepare"], Console(file=io.StringIO()))[0]


@pytest.mark.parametrize("file", ["cat.csv", "people.csv", "mine.toml"])
def test_an_edited_item_or_user_file_makes_the_prepared_log_stale(
    config: RunConfig, tmp_path: Path, file: str
) -> None:
    run(config)
    assert run(config).kept
    path = tmp_path / "described" / file
    path.write_text(path.read_text().replace("red", "tan").replace("DE", "FR") + "\n")
    assert not run(config).kept


def test_a_log_with_too_many_bad_rows_leaves_them_where_the_error_says(
    config: RunConfig, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    good = log.read_text()
    log.write_text(good + "1,a,yesterday\n")
    with pytest.raises(UserError) as error:
        run(config)
    kept = tmp_path / "runs" / "mine" / "quarantine.csv"
    assert f"see {kept}," in str(error.value)
    assert "yesterday" in kept.read_text()
    log.write_text(good)
    run(config)
    assert not kept.exists()


def test_a_log_refused_as_a_whole_leaves_no_empty_quarantine(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u,i\n1,a\n")
    with pytest.raises(UserError, match="has no column t"):
        run(config)
    assert not (tmp_path / "runs" / "mine" / "quarantine.csv").exists()
