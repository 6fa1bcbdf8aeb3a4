"""`recsys models`, `promote`, `rollback`: look into the registry and move its aliases."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.progress import say
from recsys.artifacts.registry import VERSIONS, Registry
from recsys.artifacts.version_facts import version_facts
from recsys.errors import UserError


def list_versions(registry: Path, name: str) -> None:
    """Print every version, the aliases that point to it, who made it and how good it was, newest first."""
    shelf = Registry(registry)
    versions, aliases = shelf.versions(name), shelf.aliases(name)
    if not versions:
        others = ", ".join(shelf.names())
        remedy = f"there is {others}, give --name" if others else "`recsys run` publishes a first version"
        raise UserError(f"nothing named {name} in {registry}; {remedy}")
    caption = Text(f"folders: {registry / name / VERSIONS}")
    table = Table("version", "aliases", "ranker", "run", "published", "on cold users", caption=caption)
    for version in reversed(versions):
        pointing = ", ".join(alias for alias, target in aliases.items() if target == version)
        facts = version_facts(shelf.resolve(name, version))
        told = (pointing, facts.ranker, facts.run, facts.published, facts.quality)
        table.add_row(version, *map(Text, told))
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
