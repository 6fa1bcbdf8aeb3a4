"""Who may import whom: the contracts of pyproject.toml, and packages that only one room may know."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("recsys", "pipelines", "serving")
ONLY_IN = {
    "typer": "pipelines/cli*.py",
    "faiss": "recsys/candidates/*.py",
    "ray": "pipelines/on_ray/*.py",
}


def imported(source: Path) -> set[str]:
    """Return the top-level packages that a file names in any import, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def test_the_contracts_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_itself_on_a_detour() -> None:
    """Packages may lean on each other (logs on datasets for parsing, datasets on logs for the schema)."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    circles = [
        chain
        for module in graph.modules
        for imported_module in graph.find_modules_directly_imported_by(module)
        if (chain := graph.find_shortest_chain(imported_module, module)) is not None
    ]
    assert circles == []


def test_serving_will_not_reach_the_simulator() -> None:
    """The contract must name each of its modules, also those that come later."""
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = [path.stem for path in (ROOT / "recsys" / "logs").glob("simulator*.py")]
    assert [room for room in rooms if f'"recsys.logs.{room}"' not in contracts] == []


@pytest.mark.parametrize(("package", "room"), ONLY_IN.items())
def test_some_packages_are_known_to_their_rooms_alone(package: str, room: str) -> None:
    elsewhere = [path for path in sources(*PACKAGES) if package in imported(path) and not path.match(room)]
    assert elsewhere == []


def test_nothing_imports_notebooks_or_tests() -> None:
    assert [path for path in sources(*PACKAGES) if imported(path) & {"notebooks", "tests"}] == []


def test_the_library_reads_no_arguments_and_no_environment() -> None:
    for path in sources("recsys"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        reads = {f"{node.value.id}.{node.attr}" for node in ast.walk(tree) if _is_name_and_attribute(node)}
        assert not reads & {"sys.argv", "os.environ", "os.getenv"}, path


def _is_name_and_attribute(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
