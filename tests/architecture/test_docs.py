"""What the pages tell a reader to type: one form of the command, folders that git leaves alone."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "notebooks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_command_is_written_in_one_form(page: Path) -> None:
    assert "bin/recsys" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_configs_of_experiments_are_named_with_their_folder(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    configs = ROOT / "pipelines" / "experiments" / "configs"
    for config in configs.glob("*.toml"):
        first = text.find(config.name)
        assert first < 0 or "pipelines/experiments/configs" in text[: first + 200], config.name


def test_the_readme_puts_the_command_on_the_path_before_it_is_used() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^(\$ )?recsys ", text, re.MULTILINE)
    assert first is not None
    assert 0 <= text.find("source .venv/bin/activate") < first.start()


@pytest.mark.parametrize(
    "made", ["live/keys.json", "live/default.sqlite", "log/events.parquet", "runs/x", "registry/x"]
)
def test_what_the_pages_have_written_is_nothing_to_commit(made: str) -> None:
    asked = ["git", "check-ignore", "--quiet", "--no-index", made]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("no checkout")
    assert done.returncode == 0, f"{made} would be committed; name its folder in .gitignore"
