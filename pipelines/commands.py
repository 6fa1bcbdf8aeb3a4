"""What the commands of the steps do: resolve the config, settle the threads, run."""

import os
from collections.abc import Sequence

from pipelines.configuration import resolve_config
from pipelines.places import Where, placed_steps
from recsys.config import RunConfig


def run(
    config: str,
    overrides: Sequence[str],
    steps: Sequence[str],
    force: bool,
    on: Where = Where.HERE,
    address: str | None = None,
    workers: int = 1,
) -> None:
    """Bring some steps, and those they need, up to date."""
    resolved = resolve_limited(config, overrides)
    from rich.console import Console

    from pipelines.runner import run_steps

    with placed_steps(on, address, workers) as placed:
        run_steps(resolved, placed, steps, Console(stderr=True), force=steps if force else ())


def run_all(
    config: str,
    overrides: Sequence[str],
    force: bool,
    on: Where = Where.HERE,
    address: str | None = None,
    workers: int = 1,
) -> None:
    """Bring every step up to date and print the results."""
    resolved = resolve_limited(config, overrides)
    from rich.console import Console

    from pipelines.runner import run_steps
    from pipelines.stages import NAMES
    from pipelines.summary import print_results

    with placed_steps(on, address, workers) as placed:
        outcomes = run_steps(resolved, placed, NAMES, Console(stderr=True), force=NAMES if force else ())
    print_results(Console(), resolved, outcomes)


def make_baseline(
    config: str, overrides: Sequence[str], kind: str | None, trials: int | None, promote: bool, force: bool
) -> None:
    """Make a bundle of a baseline and publish it; options of the command go before the config and its overrides."""
    given = {"baseline.kind": kind, "baseline.trials": trials}
    shorthand = [f"{key}={value}" for key, value in given.items() if value is not None]
    resolved = resolve_limited(config, [*overrides, *shorthand])
    from rich.console import Console

    from pipelines.baseline import make

    make(resolved, Console(stderr=True), promote=promote, force=force)


def resolve_limited(config: str, overrides: Sequence[str]) -> RunConfig:
    """Return the resolved config, with numerical libraries held to its threads.

    They read the environment when they load, so this comes before whatever imports them.
    """
    resolved = resolve_config(config, overrides)
    limit_threads(resolved.threads)
    return resolved


def limit_threads(threads: int) -> None:
    """Hold numerical libraries to some threads, unless the environment says otherwise."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
