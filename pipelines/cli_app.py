"""The command line's application and the options that its rooms share.

`pipelines/cli.py` runs it; each `cli_*.py` adds the commands of one errand. Only these rooms know typer.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

app = typer.Typer(
    name="recsys",
    help="From an event log to a live recommender that adapts to each user.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[str, typer.Option("--config", "-c", help="Path of a TOML file, or a shipped name.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Override one setting: section.key=value. Repeatable.")
]
Force = Annotated[bool, typer.Option("--force", help="Run even if the artifact is up to date.")]
RegistryPath = Annotated[Path, typer.Option("--registry", help="Folder of the registry.")]
Name = Annotated[str, typer.Option("--name", help="Name of the model in the registry.")]
Alias = Annotated[str, typer.Option("--alias", help="Alias to look up or move.")]

REGISTRY: Final = Path("registry")
NAME: Final = "metaq"
ALIAS: Final = "champion"
