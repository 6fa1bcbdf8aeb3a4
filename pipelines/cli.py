"""The command line: `recsys …`. What a command does lives in its own room.

Everything heavy is imported inside the commands, so that help is instant and `recsys serve` can set the
environment of numerical libraries before they load.
"""

import errno
import sys
import traceback
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from typer.exceptions import TyperException

import pipelines.cli_loop
import pipelines.cli_models
import pipelines.cli_moving
import pipelines.cli_simulated
import pipelines.cli_tune  # noqa: F401  each adds its commands
from pipelines.cli_app import (
    ALIAS,
    NAME,
    REGISTRY,
    Address,
    Config,
    Force,
    Name,
    On,
    Overrides,
    RegistryPath,
    Workers,
    app,
)
from pipelines.places import Where
from recsys.errors import UserError

EXIT_USER_ERROR: Final = 2
EXIT_BUG: Final = 70  # EX_SOFTWARE of sysexits.h: no verdict of any command, as 1 is of some
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
PLACE_ERRORS: Final = (
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    FileExistsError,
    FileNotFoundError,
)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="The log: as its publisher ships it, or one of your own.")],
    out: Annotated[Path, typer.Argument(help="Folder for the event, item and user tables.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="file (your own, with --mapping), tables, online-retail, complete-journey, movielens or open-bandit.",
        ),
    ],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="TOML of columns, for --format file (docs/logs.md).")
    ] = None,
) -> None:
    """Turn a log of any format into the canonical tables of events, items and users."""
    from pipelines.importing import import_log

    import_log(source, out, format_, mapping)


def _step_command(name: str, summary: str) -> None:
    def command(
        config: Config = "default",
        overrides: Overrides = None,
        force: Force = False,
        on: On = Where.HERE,
        address: Address = None,
        workers: Workers = 1,
    ) -> None:
        from pipelines.commands import run

        run(config, overrides or [], [name], force, on, address, workers)

    app.command(name, help=f"{summary} Runs the steps it needs first, if they are missing or stale.")(command)


_step_command("prepare", "Read a log into tables and arrays.")
_step_command("pretrain", "Train the teacher over logged sessions.")
_step_command("metatrain", "Make the teacher adaptable from a few events.")
_step_command("distill", "Distil the teacher into the student that is served.")
_step_command("index", "Build the candidate index.")


@app.command()
def evaluate(
    config: Config = "default",
    overrides: Overrides = None,
    force: Force = False,
    log: Annotated[Path | None, typer.Option("--log", help="Replay these events (Parquet).")] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Replay the endpoint's SQLite file or PostgreSQL address.")
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            "--policy", help="bundle@ALIAS or bundle@VERSION, bundle:FOLDER, random or package.module:policy."
        ),
    ] = "bundle@challenger",
    against: Annotated[
        str | None, typer.Option("--against", help="The policy to beat; without one, what was logged.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Replay the lists from this moment on, or from `training`: when that of both policies ended. "
            "Without it, all.",
        ),
    ] = None,
    registry: RegistryPath = REGISTRY,
    name: Name = NAME,
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html and report.json.")] = Path(
        "runs/replay"
    ),
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every estimator too; the report has them anyway.")
    ] = False,
) -> None:
    """Evaluate the served object: on cold users of a run, or by replay of logged sessions with --log or --store.

    In a replay --set takes window_hours, reward, assume, require, margin and more (docs/replay_evaluation.md). Exit
    codes: 0 what is required is met, 1 it is not, 2 an error, 3 these logs cannot say, 70 a bug.
    """
    if log is None and store is None:
        from pipelines.commands import run

        run(config, overrides or [], ["evaluate"], force)
        return
    from pipelines.commands import limit_threads

    limit_threads(1)
    from pipelines.replay import replay

    raise typer.Exit(
        replay(log, store, policy, against, registry, name, out, overrides or [], since, verbose=verbose)
    )


_step_command("publish", "Publish the bundle and move the alias.")


@app.command("run")
def run_(
    config: Config = "default",
    overrides: Overrides = None,
    force: Force = False,
    on: On = Where.HERE,
    address: Address = None,
    workers: Workers = 1,
) -> None:
    """Run every step and print the results."""
    from pipelines.commands import run_all

    run_all(config, overrides or [], force, on, address, workers)


@app.command()
def baseline(
    config: Config = "default",
    kind: Annotated[
        str | None, typer.Option("--kind", help="popularity, item_knn, vsknn, ease, als or sequence.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=0, help="Settings tried on validation users; 0 tries none.")
    ] = None,
    overrides: Overrides = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Move the alias to it; without this it is published only.")
    ] = False,
    force: Force = False,
) -> None:
    """Make a bundle of a baseline and publish it. Its options: --set baseline.options.shrinkage=20."""
    from pipelines.commands import make_baseline

    make_baseline(config, overrides or [], kind, trials, promote, force)


@app.command()
def serve(
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Serve what this run published, and know the users of its log."),
    ] = None,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    registry: Annotated[
        Path | None, typer.Option(envvar="RECSYS_REGISTRY", help=f"Folder of the registry, else {REGISTRY}.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(envvar="RECSYS_NAME", help=f"Name of the model, else {NAME}.")
    ] = None,
    alias: Annotated[
        str | None, typer.Option(envvar="RECSYS_ALIAS", help=f"Alias to serve, else {ALIAS}.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(envvar="RECSYS_STORE", help="SQLite file of live events.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(envvar="RECSYS_HISTORY", help="Events (Parquet) that a new store begins with."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Server processes, or replicas on a cluster.")] = 1,
    on: On = Where.HERE,
    address: Address = None,
) -> None:
    """Serve the model an alias points to. Options go before the environment, that before the config."""
    if overrides and config is None:
        raise UserError("--set changes a config; give --config too")
    from dataclasses import replace

    from pipelines.configuration import resolve_config
    from pipelines.serve import Served, maker, serve_replicas, served_by_run
    from pipelines.serve import serve as start

    run = None if config is None else resolve_config(config, overrides or [])
    served = Served() if run is None else served_by_run(run)
    given = {"registry": registry, "name": name, "alias": alias, "store": store, "history": history}
    served = replace(served, **{key: value for key, value in given.items() if value is not None})
    if run is not None and (said := maker(served, run.name)):
        print(f"recsys: {said}", file=sys.stderr)
    if config is not None and served.history is None:
        print(f"recsys: {config} has no prepared log here; every user starts as a new one", file=sys.stderr)
    if on == Where.RAY:
        serve_replicas(served, host=host, port=port, replicas=workers, address=address)
        return
    start(served, host=host, port=port, workers=workers)


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option("--user", help="A user of the run's prepared log.")] = None,
    items: Annotated[
        str | None, typer.Option("--items", help="Item ids a visitor took, oldest first: a,b,c")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many items.")] = 10,
    no_adapt: Annotated[
        bool, typer.Option("--no-adapt", help="Rank by the session's state alone, without fast weights.")
    ] = False,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Show the best items in order; else the list is drawn as served.")
    ] = False,
    alias: Annotated[
        str | None,
        typer.Option("--alias", help="Ask this alias or version of the registry, not the run's own bundle."),
    ] = None,
    config: Config = "default",
    overrides: Overrides = None,
) -> None:
    """Recommend in the terminal, with titles."""
    if (user is None) == (items is None):
        raise UserError("give either --user ID or --items a,b,c")
    taken = None if items is None else [item.strip() for item in items.split(",") if item.strip()]
    if taken == []:
        raise UserError(f"--items {items!r} names no item; give ids such as --items 22423,85123A")
    from pipelines.commands import resolve_limited

    resolved = resolve_limited(config, overrides or [])
    from pipelines.recommend import recommend as show

    show(resolved, user=user, items=taken, n=n, adapt=not no_adapt, greedy=greedy, alias=alias)


def main() -> None:
    """Run the command line: what a person can mend is one line and exit code 2, Ctrl-C one line and 130.

    Anything else is a bug: its traceback, and an exit code that is no verdict.
    """
    try:
        code = app(prog_name="recsys", standalone_mode=False)
    except UserError as error:
        _stop(str(error), EXIT_USER_ERROR)
    except TyperException as error:
        said = error.format_message().rstrip(".")  # nothing where the help was printed instead
        command = getattr(getattr(error, "ctx", None), "command_path", "recsys")
        _stop(said and f"{said}; `{command} --help` lists what it takes", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        if not (isinstance(error, OSError) and _is_about_a_place(error)):
            traceback.print_exc()
            raise SystemExit(EXIT_BUG) from None
        place = f"{error.filename}: " if error.filename else ""
        _stop(
            f"{place}{error.strerror}; choose another place in the config or free this one", EXIT_USER_ERROR
        )
    if code == EXIT_INTERRUPTED:  # typer swallows the KeyboardInterrupt and returns its code
        _stop("stopped; finished steps are kept", EXIT_INTERRUPTED)
    raise SystemExit(code)


def _is_about_a_place(error: OSError) -> bool:
    """Say whether a file or folder is in the way, missing, read-only or full: no bug of ours."""
    if isinstance(error, PLACE_ERRORS):
        return error.filename is not None
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _stop(text: str, code: int) -> NoReturn:
    if line := " ".join(text.split()):
        print(f"recsys: {line}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
