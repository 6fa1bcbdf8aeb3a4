"""The house rules that a machine can hold: short files, no pickle, empty `__init__`, docstrings, pins."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("recsys", "pipelines", "serving")
LONGEST_FILE = 330  # lines

# What runs code while it reads data, or may.
UNSAFE = re.compile(
    r"\bimport (pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b"
    r"|\bfrom (pickle|dill|cloudpickle|joblib|shelve|marshal) import\b"
    r"|\btorch\.(load|save)\(|\bread_pickle\(|\bto_pickle\(|allow_pickle\s*=\s*True"
)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(*PACKAGES, "tests"), ids=name)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{lines} lines; split the room in two"


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name)
def test_nothing_is_ever_unpickled(path: Path) -> None:
    found = UNSAFE.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{found.group()!r} can run what a file says; use safetensors, npy or JSON"


@pytest.mark.parametrize("path", [p for p in sources(*PACKAGES) if p.name == "__init__.py"], ids=name)
def test_packages_hold_no_logic(path: Path) -> None:
    """An `__init__` may say what the package is and pass names on; nothing else."""
    logic = [
        ast.unparse(node) for node in ast.parse(path.read_text(encoding="utf-8")).body if not _is_plain(node)
    ]
    if name(path) == "serving/__init__.py":
        # The one exception: threads of numerical libraries are limited before anything can load them.
        logic = [text for text in logic if text != "import os" and "_NUM_THREADS" not in text]
    assert logic == []


def _is_plain(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets] == ["__all__"]
    return isinstance(node, ast.ImportFrom)


@pytest.mark.parametrize("path", [p for p in sources(*PACKAGES) if p.name != "__init__.py"], ids=name)
def test_every_room_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_what_make_installs_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in wanted}
    assert names <= set(pins)
    assert "+" not in pins["torch"]
    assert f"torch=={pins['torch']}" in wanted
    assert f"torch=={pins['torch']}" in (ROOT / "Makefile").read_text(encoding="utf-8")
