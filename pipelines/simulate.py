"""`recsys simulate`: a log with known truth, or what policies are worth in the world that it comes from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from pipelines.progress import PhaseReporter, say, shown
from recsys.errors import UserError
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_belief import run_belief
from recsys.logs.simulator_files import write_log
from recsys.logs.simulator_policies import (
    Lives,
    LoggingSettings,
    logging_policy,
    myopic_policy,
    optimal_policy,
    random_policy,
    run_policy,
)
from recsys.logs.simulator_values import solve
from recsys.randomness import numpy_generator

_MOST_BELIEFS: Final = 5000  # (user, item) arrays are held


def simulate(
    out: Path | None, users: int, items: int, seed: int, logging: LoggingSettings, report: bool
) -> None:
    """Write the log, print the report, or both; raises UserError if neither is asked for."""
    if out is None and not report:
        raise UserError("nothing to do; give --out FOLDER, --report, or both")
    world = make_world(replace(WorldSettings(), items=items), seed)
    if out is not None:
        console = Console(stderr=True)
        with shown(console, "simulate") as progress:
            log = write_log(world, logging, users, seed, out, progress=PhaseReporter(progress, "users"))
        say(
            console,
            f"{log.users:,} users, {log.impressions:,} impressions, {log.events:,} events of {log.items:,} items "
            f"in {out}",
        )
    if report:
        print_report(world, users, seed, logging)


def print_report(
    world: World, users: int, seed: int, logging: LoggingSettings, served: Mapping[str, Lives] | None = None
) -> None:
    """Print each policy's exact return beside what simulated users came to, then what others served them."""
    policies = (
        random_policy(world),
        logging_policy(world, logging),
        myopic_policy(world),
        optimal_policy(world, 0.8),
        optimal_policy(world, 0.9),
        optimal_policy(world),
    )
    exact = [policy.start_value(world) for policy in policies]
    print(
        f"world of seed {seed}, {world.settings.items:,} items: return of a new user, mean of {users:,} lives"
    )
    print(
        f"{'policy':44} {'exact':>8} {'of best':>8} {'simulated':>10} {'±':>6} {'steps':>6} {'sessions':>8}"
    )
    for policy, value in zip(policies, exact, strict=True):
        lives = run_policy(world, policy, users, numpy_generator(seed, f"report {policy.name}"))
        _print_row(policy.name, f"{value:.4f}", value / exact[-1], lives)
    for planning in (0.0, 0.9):  # what history allows has no closed form
        value = solve(world, planning).value
        generator = numpy_generator(seed, f"report belief {planning:g}")
        lives = run_belief(world, value, min(users, _MOST_BELIEFS), generator, planning)
        share = float(lives.returns.mean()) / exact[-1]
        _print_row(f"knows the rules and the history, discount {planning:g}", "", share, lives)
    for name, lives in (served or {}).items():
        _print_row(name, "", float(lives.returns.mean()) / exact[-1], lives)


def _print_row(name: str, exact: str, share: float, lives: Lives) -> None:
    mean, half = lives.interval()
    print(
        f"{name:44} {exact:>8} {share:8.1%} {mean:10.4f} {half:6.4f} {lives.steps.mean():6.1f} "
        f"{lives.sessions.mean():8.2f}"
    )
