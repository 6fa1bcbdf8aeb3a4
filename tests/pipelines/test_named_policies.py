"""Policies by name: whose fault it is where one raises, and what reports call a bundle."""

import json
from pathlib import Path

import pytest
from replay_shelf import made_shelf, run
from typer.testing import CliRunner

from pipelines.cli import app
from recsys.artifacts.registry import Registry
from recsys.evaluation.replay.policies import PolicyError, ServedPolicy


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shelf(tmp_path_factory.mktemp("shelf"))


MINE = """
class Mine:
    name, reads_impressions = "mine", False
    item_ids = ["i0", "i1"]

    def distribution(self, request):
        {body}

policy = Mine()
"""


@pytest.mark.parametrize(
    ("body", "name", "says"),
    [
        ("raise KeyError('boo')", "raising", "raising:policy raised KeyError('boo') in raising.py, line 7, asked"),
        ("return None", "empty", "empty:policy raised AttributeError("),
        ("return None\n\nraise OSError('at import')", "loading", "loading:policy raised OSError('at import') in"),
        ("return None\n\ndel Mine", "unmade", "unmade:policy raised NameError("),
        ("return None", "misspelt", "'misspelt:polcy' names nothing: module 'misspelt' has no attribute 'polcy'"),
    ],
)  # fmt: skip
def test_a_policy_of_ones_own_that_raises_is_one_line_and_no_verdict(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str, says: str
) -> None:
    monkeypatch.syspath_prepend(str(shelf))
    (shelf / f"{name}.py").write_text(MINE.format(body=body))
    asked = f"{name}:{'polcy' if name == 'misspelt' else 'policy'}"
    code, said = run(shelf, "--log", str(shelf / "log"), "--policy", asked, "--set", "self_test=false")
    assert code == 2
    assert says in said
    assert "\n" not in said.strip()


def test_what_a_bundle_raises_is_no_fault_of_the_callers(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ServedPolicy, request: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ServedPolicy, "distribution", broken)
    words = ["evaluate", "--registry", str(shelf / "registry"), "--log", str(shelf / "log")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, PolicyError)
    assert isinstance(done.exception.__cause__, ZeroDivisionError)


def test_a_bundle_of_no_registry_is_called_by_its_folder(shelf: Path) -> None:
    folders = [str(shelf / name) for name in ("challenger", "champion")]
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", f"bundle:{folders[0]}", "--against", f"bundle:{folders[1]}",
        "--set", "self_test=false",
    )  # fmt: skip
    assert code == 0, said
    plain = json.loads((shelf / "out" / "report.json").read_text())
    assert [plain["policy"], plain["against"]] == folders
    run(shelf, "--log", str(shelf / "log"), "--policy", "bundle@champion", "--set", "self_test=false")
    version = Registry(shelf / "registry").aliases("metaq")["champion"]
    assert json.loads((shelf / "out" / "report.json").read_text())["policy"] == version
