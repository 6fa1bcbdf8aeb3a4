"""Commands that move what was learnt on: from yesterday's events to today's, from one catalogue to another."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_app import NAME, REGISTRY, Config, Name, Overrides, RegistryPath, app

Training = Annotated[
    Path | None,
    typer.Option(
        "--training", help="Folder of the run that made the bundle, where its training was not kept."
    ),
]
Output = Annotated[Path, typer.Option("--output", help="Folder that the new run's folder goes into.")]


@app.command(rich_help_panel="More logs")
def finetune(
    bundle: Annotated[
        str, typer.Option("--bundle", help="Version, alias, a bundle's folder or a run's folder.")
    ],
    log: Annotated[
        list[Path],
        typer.Option("--log", help="New events: Parquet in the event table's columns. Repeatable."),
    ],
    overrides: Overrides = None,
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
    alias: Annotated[
        str, typer.Option("--alias", help="Alias that the new version gets; empty for none.")
    ] = "challenger",
    output: Output = Path("runs"),
    run_name: Annotated[
        str | None, typer.Option("--run-name", help="Name of the new run, else the old one's with -next.")
    ] = None,
    training: Training = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Measure it on cold users of the new events.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Run even if nothing has changed.")] = False,
) -> None:
    """Train on from a bundle with new events and items; old items keep their vectors, old events are replayed.

    Every setting is the one that made the bundle; --set changes some, such as finetune.replay_share=0.5.
    """
    from pipelines.commands import limit_threads

    limit_threads(1)
    from rich.console import Console

    from pipelines.finetune import finetune as train_on
    from pipelines.finetune_report import show

    console = Console(stderr=True)
    made = train_on(
        bundle,
        log,
        overrides=overrides or [],
        registry=registry,
        name=name,
        alias=alias or None,
        output=output,
        run_name=run_name,
        training=training,
        evaluate=evaluate,
        force=force,
        console=console,
    )
    show(made, Console())


@app.command(rich_help_panel="More logs")
def transfer(
    source: Annotated[
        str,
        typer.Option("--from", help="Version, alias, a bundle's folder or a run's folder, of another log."),
    ],
    log: Annotated[
        Path | None, typer.Option("--log", help="The new log, in the format that the config names.")
    ] = None,
    config: Config = "own",
    overrides: Overrides = None,
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
    training: Training = None,
) -> None:
    """Run every step on a new log, warm-started from a bundle of another one.

    Both logs need prepare.content_space=shared; --set transfer.frozen_epochs=2 keeps what was learnt for longer.
    """
    from pipelines.commands import limit_threads

    limit_threads(1)
    from rich.console import Console

    from pipelines.summary import print_results
    from pipelines.transfer import transfer as warm_start

    resolved, outcomes = warm_start(
        source,
        config,
        overrides or [],
        log=log,
        registry=registry,
        name=name,
        training=training,
        console=Console(stderr=True),
    )
    print_results(Console(), resolved, outcomes)
