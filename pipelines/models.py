"""`recsys models`, `promote`, `rollback`: look into the registry and move its aliases."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.progress import say
from recsys.artifacts.bundle_info import ranker_name
from recsys.artifacts.registry import Registry
from recsys.errors import UserError


def list_versions(registry: Path, name: str) -> None:
    """Print every version, what ranks in it, and the aliases that point to it, newest first."""
    shelf = Registry(registry)
    versions, aliases = shelf.versions(name), shelf.aliases(name)
    if not versions:
        raise UserError(f"nothing named {name} in {registry}; `recsys run` publishes a first version")
    table = Table("version", "ranker", "aliases", "folder")
    for version in reversed(versions):
        pointing = ", ".join(alias for alias, target in aliases.items() if target == version)
        folder = shelf.resolve(name, version)
        table.add_row(version, Text(ranker_name(folder)), Text(pointing), Text(str(folder)))
    Console().print(table)
    for alias in shelf.damaged_aliases(name):
        say(
            Console(stderr=True),
            f"the alias {alias} is damaged; `recsys promote VERSION --alias {alias}` sets it again",
        )


def move(registry: Path, name: str, alias: str, version: str) -> None:
    """Point an alias to a version."""
    Registry(registry).set_alias(name, alias, version)
    say(Console(), f"{alias} of {name} is now {version}")


def move_back(registry: Path, name: str, alias: str) -> None:
    """Point an alias back to the version before."""
    version = Registry(registry).rollback(name, alias)
    say(Console(), f"{alias} of {name} is {version} again")
