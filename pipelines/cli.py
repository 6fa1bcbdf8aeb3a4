"""The command line: `recsys …`. The only room that knows typer; what a command does lives in its own room.

Everything heavy is imported inside the commands, so that help is instant and `recsys serve` can set the
environment of numerical libraries before they load.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from recsys.errors import UserError

EXIT_USER_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

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


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="The log as its publisher ships it.")],
    out: Annotated[Path, typer.Argument(help="Folder for the event, item and user tables.")],
    format_: Annotated[str, typer.Option("--format", help="online-retail, complete-journey, movielens, …")],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="TOML of columns, for --format file.")
    ] = None,
) -> None:
    """Turn an official raw log into the canonical tables."""
    from pipelines.importing import import_log

    import_log(source, out, format_, mapping)


def _step_command(name: str, summary: str) -> None:
    def command(config: Config = "default", overrides: Overrides = None, force: Force = False) -> None:
        from pipelines.commands import run

        run(config, overrides or [], [name], force)

    app.command(name, help=f"{summary} Runs the steps it needs first, if they are missing or stale.")(command)


_step_command("prepare", "Read a log into tables and arrays.")
_step_command("pretrain", "Train the teacher over logged sessions.")
_step_command("metatrain", "Make the teacher adaptable from a few events.")
_step_command("distill", "Distil the teacher into the student that is served.")
_step_command("index", "Build the candidate index.")
_step_command("evaluate", "Evaluate the served object on cold users.")
_step_command("publish", "Publish the bundle and move the alias.")


@app.command("run")
def run_(config: Config = "default", overrides: Overrides = None, force: Force = False) -> None:
    """Run every step and print the results."""
    from pipelines.commands import run_all

    run_all(config, overrides or [], force)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
    alias: Alias = ALIAS,
    store: Annotated[Path | None, typer.Option(help="SQLite file of live events.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Events (Parquet) that a new store begins with.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Server processes.")] = 1,
) -> None:
    """Serve the model an alias points to."""
    from pipelines.serve import serve as start

    start(
        host=host,
        port=port,
        registry=registry,
        name=name,
        alias=alias,
        store=store,
        history=history,
        workers=workers,
    )


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option("--user", help="A user of the run's prepared log.")] = None,
    items: Annotated[
        str | None, typer.Option("--items", help="Item ids a visitor took, oldest first: a,b,c")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many items.")] = 10,
    no_adapt: Annotated[
        bool, typer.Option("--no-adapt", help="Leave the fast weights at their prior.")
    ] = False,
    config: Config = "default",
    overrides: Overrides = None,
) -> None:
    """Recommend in the terminal, with titles."""
    if (user is None) == (items is None):
        raise UserError("give either --user ID or --items a,b,c")
    from pipelines.commands import resolve_limited

    resolved = resolve_limited(config, overrides or [])
    from pipelines.recommend import recommend as show

    taken = None if items is None else [item.strip() for item in items.split(",") if item.strip()]
    show(resolved, user=user, items=taken, n=n, adapt=not no_adapt)


@app.command()
def models(registry: RegistryPath = REGISTRY, name: Name = NAME) -> None:
    """List versions and the aliases that point to them."""
    from pipelines.models import list_versions

    list_versions(registry, name)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="The version to serve from now on.")],
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
    alias: Alias = ALIAS,
) -> None:
    """Point an alias to a version."""
    from pipelines.models import move

    move(registry, name, alias, version)


@app.command()
def rollback(registry: RegistryPath = REGISTRY, name: Name = NAME, alias: Alias = ALIAS) -> None:
    """Point an alias back to the version before."""
    from pipelines.models import move_back

    move_back(registry, name, alias)


def main() -> None:
    """Run the command line: a UserError is one line and exit code 2, Ctrl-C one line and 130."""
    try:
        app()
    except UserError as error:
        _stop(" ".join(str(error).split()), EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _stop("stopped; finished steps are kept", EXIT_INTERRUPTED)
    except SystemExit as leave:
        if leave.code == EXIT_INTERRUPTED:  # typer has swallowed the KeyboardInterrupt
            _stop("stopped; finished steps are kept", EXIT_INTERRUPTED)
        raise


def _stop(text: str, code: int) -> None:
    print(f"recsys: {text}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
