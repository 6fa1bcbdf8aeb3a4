"""The command line's application and the options that its rooms share.

`pipelines/cli.py` runs it; each `cli_*.py` adds the commands of one errand. Only these rooms know typer.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from pipelines.places import Where

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
On = Annotated[Where, typer.Option("--on", help="Where the work is done: here, or ray, a cluster.")]
Address = Annotated[
    str | None, typer.Option("--address", help="Of the Ray cluster: host:port, else auto; local begins one.")
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="With --on ray: processes that train together.")
]
RegistryPath = Annotated[Path, typer.Option("--registry", help="Folder of the registry.")]
Name = Annotated[str, typer.Option("--name", help="Name of the model in the registry.")]
Alias = Annotated[str, typer.Option("--alias", help="Alias to look up or move.")]

REGISTRY: Final = Path("registry")
NAME: Final = "metaq"
ALIAS: Final = "champion"
