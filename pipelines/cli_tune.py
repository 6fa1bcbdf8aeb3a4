"""The command that searches for better settings."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_app import Address, Config, On, Overrides, app
from pipelines.places import Where


@app.command(rich_help_panel="Search")
def tune(
    config: Config = "default",
    space: Annotated[
        str, typer.Option("--space", help="Path of a TOML file of what is searched, or a shipped name.")
    ] = "default",
    overrides: Overrides = None,
    trial_overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--trial-set", help="As --set, but of the trials alone: pretrain.epochs=3 makes them cheaper."
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials of the whole search, earlier ones among them.")
    ] = 24,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Begin no trial after so long; what runs is finished.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    finalists: Annotated[
        int, typer.Option(min=0, help="Train the best at full length, beside the config as it is; 0: none.")
    ] = 0,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Seed of the finals; repeatable, else the config's.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="Folder of the search, else <output>/<name>-tune.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the winner goes, else winner.toml in the study.")
    ] = None,
    on: On = Where.HERE,
    address: Address = None,
) -> None:
    """Search for settings whose served object validates better; a killed search goes on where it was.

    Test users are not read. The winner is a config: recsys run --config winner.toml.
    """
    from pipelines.commands import resolve_limited

    resolve_limited(config, overrides or [])
    from rich.console import Console

    from pipelines.tuning.tune import Asked
    from pipelines.tuning.tune import tune as search

    asked = Asked(
        config=config,
        space=space,
        overrides=overrides or [],
        trial_overrides=trial_overrides or [],
        trials=trials,
        minutes=minutes,
        workers=workers,
        finalists=finalists,
        seeds=seeds or [],
        folder=study,
        out=out,
    )
    from pipelines.pools import pool_of

    with pool_of(on, address) as pool:
        search(asked, pool, Console(stderr=True))
