"""`recsys simulate`: a log with known truth, or what policies are worth in the world that it comes from."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipelines.progress import PhaseReporter, say, shown
from recsys.errors import UserError
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_files import write_log
from recsys.logs.simulator_policies import (
    LoggingSettings,
    logging_policy,
    myopic_policy,
    optimal_policy,
    random_policy,
    run_policy,
)
from recsys.randomness import numpy_generator


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


def print_report(world: World, users: int, seed: int, logging: LoggingSettings) -> None:
    """Print each policy's exact return beside what simulated users came to."""
    policies = (
        random_policy(world),
        logging_policy(world, logging),
        myopic_policy(world),
        optimal_policy(world, 0.8),
        optimal_policy(world, 0.9),
        optimal_policy(world),
    )
    best = policies[-1].start_value(world)
    print(
        f"world of seed {seed}, {world.settings.items:,} items: return of a new user, mean of {users:,} lives"
    )
    print(
        f"{'policy':44} {'exact':>8} {'of best':>8} {'simulated':>10} {'±':>6} {'steps':>6} {'sessions':>8}"
    )
    for policy in policies:
        lives = run_policy(world, policy, users, numpy_generator(seed, f"report {policy.name}"))
        mean, half = lives.interval()
        exact = policy.start_value(world)
        print(
            f"{policy.name:44} {exact:8.4f} {exact / best:8.1%} {mean:10.4f} {half:6.4f} "
            f"{lives.steps.mean():6.1f} {lives.sessions.mean():8.2f}"
        )
