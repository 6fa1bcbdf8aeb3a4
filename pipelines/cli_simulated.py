"""Commands about simulated users, whose best policy is known: a log of theirs, and what a bundle brings them."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_app import NAME, REGISTRY, Name, RegistryPath, app


@app.command()
def simulate(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the tables.")] = None,
    users: Annotated[int, typer.Option(min=2, help="Users who live their whole lives.")] = 10_000,
    items: Annotated[int, typer.Option(min=1, help="Size of the catalogue.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the world and of its users.")] = 7,
    temperature: Annotated[float, typer.Option(help="Of the logging policy's softmax.")] = 0.7,
    exploration: Annotated[float, typer.Option(help="Its share of items shown at random.")] = 0.1,
    report: Annotated[
        bool, typer.Option("--report", help="Print exact and simulated returns of policies.")
    ] = False,
) -> None:
    """Write a log of simulated users, whose best policy is known, in tables that prepare reads."""
    from pipelines.simulate import simulate as write
    from recsys.logs.simulator_policies import LoggingSettings

    write(out, users, items, seed, LoggingSettings(temperature, exploration=exploration), report)


@app.command()
def play(
    world: Annotated[Path, typer.Option("--world", help="Folder of a log that `recsys simulate` wrote.")],
    policy: Annotated[
        str, typer.Option("--policy", help="bundle@ALIAS or bundle:FOLDER.")
    ] = "bundle@champion",
    users: Annotated[int, typer.Option(min=2, help="New users who live their whole lives.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of these users.")] = 7,
    explore: Annotated[
        bool,
        typer.Option("--explore", help="Draw what is shown as the endpoint does; else the best is shown."),
    ] = False,
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
) -> None:
    """Let simulated users be served by a bundle: what it earns, beside policies that know the rules."""
    from pipelines.commands import limit_threads

    limit_threads(1)
    from pipelines.play import play as let_play

    let_play(world, policy, users, seed, explore=explore, registry=registry, name=name)
