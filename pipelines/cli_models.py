"""Commands about versions: which there are, which one is served."""

from typing import Annotated

import typer

from pipelines.cli_app import ALIAS, NAME, REGISTRY, Alias, Name, RegistryPath, app


@app.command(rich_help_panel="Versions")
def models(registry: RegistryPath = REGISTRY, name: Name = NAME) -> None:
    """List versions and the aliases that point to them."""
    from pipelines.models import list_versions

    list_versions(registry, name)


@app.command(rich_help_panel="Versions")
def promote(
    version: Annotated[str, typer.Argument(help="The version to serve from now on.")],
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
    alias: Alias = ALIAS,
) -> None:
    """Point an alias to a version."""
    from pipelines.models import move

    move(registry, name, alias, version)


@app.command(rich_help_panel="Versions")
def rollback(registry: RegistryPath = REGISTRY, name: Name = NAME, alias: Alias = ALIAS) -> None:
    """Point an alias back to the version before."""
    from pipelines.models import move_back

    move_back(registry, name, alias)
