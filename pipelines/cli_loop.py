"""Commands about the loop: whether traffic has drifted, and a better model from what was logged."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_app import Config, Overrides, app

LogPath = Annotated[
    Path | None, typer.Option("--log", help="Exported traffic (Parquet), a file or a folder.")
]
StoreAddress = Annotated[
    str | None,
    typer.Option("--store", envvar="RECSYS_STORE", help="The endpoint's SQLite file or PostgreSQL address."),
]


@app.command(rich_help_panel="The loop")
def improve(
    config: Config = "default",
    overrides: Overrides = None,
    store: StoreAddress = None,
    log: LogPath = None,
    candidate: Annotated[
        str | None, typer.Option("--candidate", help="Judge this version or alias; train nothing.")
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", help="Do a round every so many hours, until stopped.")
    ] = None,
    canary: Annotated[
        float | None,
        typer.Option(
            "--canary",
            help="Percent of users who try what passes first (improve.canary_when: or what replay cannot judge).",
        ),
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Let what passes rank unseen first; the next round judges it again."),
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Address of the endpoint, for trials.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", envvar="RECSYS_API_KEY", help="Its API key with the scope admin.")
    ] = None,
) -> None:
    """Train a challenger on what was logged, replay it against the champion, promote it if the gate passes.

    Settings: the section improve of the config (docs/closed_loop.md). Exit codes: 0 promoted, 1 kept, 2 an error,
    3 these logs cannot say, 4 on trial, 70 a bug.
    """
    from pipelines.commands import resolve_limited

    resolved = resolve_limited(config, overrides or [])
    from rich.console import Console

    from pipelines.improve import every as repeat
    from pipelines.improve import improve as one_round
    from pipelines.loop_round import Asked, Endpoint

    console = Console(stderr=True)
    source = None if log is not None else store  # an export asked for by name goes before the environment
    where = None if endpoint is None else Endpoint(endpoint, key)
    asked = Asked(log, source, candidate, canary, shadow, where, terse=every is not None)
    if every is None:
        raise typer.Exit(one_round(resolved, asked, console))
    repeat(every, lambda: one_round(resolved, asked, console), console)


@app.command(rich_help_panel="The loop")
def drift(
    config: Config = "default", overrides: Overrides = None, store: StoreAddress = None, log: LogPath = None
) -> None:
    """Compare the newest traffic with that before it: items, rewards, cold users, what is shown.

    Windows and bounds: the section improve.drift of the config. Exit codes: 0 steady, 1 drifted, 2 an error,
    3 too few lists, 70 a bug.
    """
    from pipelines.commands import resolve_limited

    resolved = resolve_limited(config, overrides or [])
    from pipelines.drift import show_drift

    raise typer.Exit(show_drift(resolved, log, None if log is not None else store))
