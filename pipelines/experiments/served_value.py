"""What is served looks ahead too: the shipped pipeline on simulated logs, its bundle among the world's new users.

    python -m pipelines.experiments.served_value --seeds 7,8,9 --work FOLDER --out FILE [--variants feed,myopic]

Every seed is a world of its own, those of `long_term`. `recsys simulate`'s log of it is written, the steps of `recsys
run --config feed` up to the bundle learn from it (and those of each variant), and new users live their lives with what
the endpoint would show, as `recsys play` has it: the best item of the index by the student. The teacher plays beside
it, so that what fitted Q evaluation finds stands beside what comes. The file grows by one training at a time; with the
same --out a stopped run goes on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.command import opened_report, run_command
from pipelines.experiments.long_term import figures, known_policies, small_world
from pipelines.experiments.long_term_play import play_network
from pipelines.play import lives_of
from pipelines.publish import BUNDLE
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.config import RunConfig
from recsys.learning.checkpoint import load_teacher
from recsys.logs.prepared import open_prepared
from recsys.logs.simulator import World, make_world
from recsys.logs.simulator_files import write_log
from recsys.logs.simulator_policies import Lives, LoggingSettings
from recsys.randomness import numpy_generator
from recsys.recommender import load_recommender

ITEMS, LOG = 60, "simulated"
FEED = "feed"
HEALTH = ("over_estimation", "mean_return", "calibration_error", "promised", "fitted_value", "over_promise")
# what a run of the log does differently, over a shipped config
VARIANTS: dict[str, tuple[str, list[str]]] = {
    FEED: ("feed", []),
    "myopic": ("feed", ["pretrain.discount=0"]),  # the next answer alone
    "start from interactions": ("feed", ["pretrain.start=interactions"]),
    "keep best epoch": ("feed", ["pretrain.keep=best_epoch"]),
    # teachers that promise more than they keep: does fitted Q evaluation tell?
    "large steps": ("feed", ["pretrain.learning_rate=2e-2", "pretrain.double=false"]),
    "long view": ("feed", ["pretrain.discount=0.97"]),
    # the shipped ranker: what was shown without answer is no action, Q ranks what is taken next
    "ranker": ("own", ["prepare.log.format=tables", "prepare.log.mapping=none", "prepare.split.kind=users"]),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and play what is missing in the file, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[7, 8, 9]
    )
    parser.add_argument("--variants", type=lambda text: text.split(","), default=[FEED])
    parser.add_argument("--work", type=Path, required=True, help="folder of logs and runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=60_000, help="of the log")
    parser.add_argument("--players", type=int, default=2_000, help="new users of each policy")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.variants) - set(VARIANTS):
        parser.error(f"--variants names {', '.join(sorted(unknown))}; choose among {', '.join(VARIANTS)}")
    console = Console(stderr=True)
    report = opened_report(asked.out, f"{LOG}, {asked.users} users", asked.set, "worlds")
    for seed in asked.seeds:
        world = make_world(small_world(ITEMS), seed)
        done = report["worlds"].setdefault(str(seed), {})
        for name, of in [("known", known), *((variant, served) for variant in asked.variants)]:
            if name not in done:
                done[name] = of(world, name, seed, asked, console)
                asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(markdown(report))
    print(f"\n{promises(report)}")


def known(
    world: World, name: str, seed: int, asked: argparse.Namespace, console: Console
) -> dict[str, dict[str, float]]:
    """Return what policies that know the rules are worth."""
    return known_policies(world, seed, asked.players)


def served(
    world: World, name: str, seed: int, asked: argparse.Namespace, console: Console
) -> dict[str, dict[str, float]]:
    """Return what the bundle of a variant brings, and its teacher."""
    folder = asked.work / f"log-{seed}-{asked.users}"
    if not (folder / "users.parquet").is_file():
        write_log(world, LoggingSettings(), asked.users, seed, folder)
    config = run_config(name, seed, folder, asked)
    steps = {outcome.step: outcome for outcome in run_steps(config, all_steps(), ("index",), console)}
    recommender = load_recommender(steps["index"].folder / BUNDLE)
    played = {
        "served": lives_of(world, recommender, asked.players, seed, console=console),
        "served, drawn": lives_of(world, recommender, asked.players, seed, greedy=False, console=console),
    }
    found = {part: worth(lives) for part, lives in played.items()}
    if config.prepare.impressions == "actions":
        network = load_teacher(steps["pretrain"].folder, config.pretrain.temperature)
        types = open_prepared(steps["prepare"].folder).info.event_types
        chance, discount = numpy_generator(seed, "long-term play"), config.pretrain.discount
        found["teacher"] = figures(play_network(world, network, asked.players, chance, discount, types))
    health = json.loads((steps["pretrain"].folder / "health.json").read_text(encoding="utf-8"))
    found["health"] = {name: health[name] for name in HEALTH}
    return found


def run_config(name: str, seed: int, log: Path, asked: argparse.Namespace) -> RunConfig:
    """Return the config of one variant on one seed's log."""
    config, overrides = VARIANTS[name]
    run = f"{name.replace(' ', '-')}-{seed}"
    places = [f"name={run}", f"prepare.log.path={log}", f"output={asked.work}"]
    registry = f"publish.registry={asked.work / 'registry' / run}"
    return resolve_config(config, [*overrides, *asked.set, f"seed={seed}", *places, registry])


def worth(lives: Lives) -> dict[str, float]:
    """Return the mean return of some lives with its half interval."""
    mean, half = lives.interval()
    return {"return": mean, "half": half}


def markdown(report: dict[str, Any]) -> str:
    """Return whole-life returns, ± half of 95 %, policies by seeds."""
    worlds = report["worlds"]
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for seed, found in worlds.items():
        for policy, told in found["known"].items():
            rows.setdefault(policy, {})[seed] = told
        for variant, parts in found.items():
            for part, told in parts.items() if variant != "known" else ():
                if part != "health":
                    rows.setdefault(f"{variant}: {part}", {})[seed] = told
    lines = [f"| policy | {' | '.join(worlds)} |", "|---" * (len(worlds) + 1) + "|"]
    for policy, by_seed in rows.items():
        cells = [_cell(by_seed.get(seed)) for seed in worlds]
        lines.append(f"| {policy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def promises(report: dict[str, Any]) -> str:
    """Return what teachers promise of their policy over what it brings, and over what the log says that it brings."""
    lines = ["| teacher | world | promised over simulated | over fitted Q | calibration |", "|---" * 5 + "|"]
    for seed, found in report["worlds"].items():
        for variant, parts in found.items():
            if variant == "known" or "teacher" not in parts:
                continue
            told, health = parts["teacher"], parts["health"]
            gap = health["calibration_error"] / health["mean_return"]
            ratios = (told["predicted_over_discounted"], health["over_promise"], gap)
            cells = " | ".join("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
            lines.append(f"| {variant} | {seed} | {cells} |")
    return "\n".join(lines)


def _cell(told: dict[str, float] | None) -> str:
    if told is None:
        return ""
    return f"{told['return']:.2f}" + (f" ± {told['half']:.2f}" if "half" in told else "")


if __name__ == "__main__":
    run_command(main)
