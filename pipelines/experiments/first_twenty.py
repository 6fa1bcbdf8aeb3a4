"""What cold users bring in their first twenty interactions in the simulated world, by how the recommender adapts.

    python -m pipelines.experiments.first_twenty --seeds 7,8,9 --out FILE [--svg FILE]

A world of 24 tastes, a log of 12 000 users under a logging policy that knows segments alone; then new users, the same
for every policy, are shown twenty items. `adapted` is Q_θ(s, i) with the closed-form fast weights of
recsys/adaptation.py, their prior learnt from the log's users; without them it is Q_θ alone. The bandits start from the
same Q_θ and read the same evidence. `sequence state` is the ranker's recurrent network, which adapts by its state and
nothing else. Every policy's settings are chosen in the world of another seed. Regret: what the policy that sees the
hidden state, optimal over whole lives, brought the same users by then, less what the policy did.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.experiments.command import run_command
from pipelines.experiments.first_twenty_policies import (
    Act,
    FoldIn,
    LinearBandit,
    RewardBandit,
    Start,
    adapted,
    item_values,
    sequence_state,
    unadapted,
)
from pipelines.experiments.first_twenty_prior import learn_tastes
from pipelines.experiments.long_term import teacher_settings
from pipelines.experiments.long_term_learn import Learning, learn_offline
from recsys.evaluation.intervals import bootstrap_mean
from recsys.logs.prepared import PreparedLog
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_policies import WorldPolicy, logging_policy, myopic_policy, optimal_policy
from recsys.logs.simulator_prepared import prepared_actions
from recsys.logs.simulator_sessions import BatchedSessions
from recsys.logs.simulator_stream import simulate
from recsys.policies.als import AlsOptions
from recsys.randomness import derive_seed, numpy_generator, torch_generator
from recsys.types import FloatArray

STEPS, LOGGED, TUNING_SEED, ARRIVAL_DAYS = 20, 12_000, 101, 90.0
ADAPTED, UNADAPTED, STATE = "adapted", "not adapted", "sequence state"
LINUCB, THOMPSON, FOLD_IN = "LinUCB", "linear Thompson", "iALS fold-in"
BANDITS = (LINUCB, f"{LINUCB}, on rewards", THOMPSON, f"{THOMPSON}, on rewards")
POLICIES = (ADAPTED, UNADAPTED, STATE, *BANDITS, FOLD_IN)
Maker = Callable[[], Act]


def many_tastes() -> WorldSettings:
    """Return a world in which segments say little and a user's taste much."""
    return WorldSettings(
        items=500,
        types=24,
        topics=8,
        segments=3,
        segment_fidelity=0.5,
        memory=2,
        freshness=(1.0, 0.8, 0.6),
        personal_appeal=0.35,
        item_quality=(0.35, 0.75),
        other_taste=(0.1, 0.35),
    )


def candidates(log: PreparedLog, seed: int, epochs: int) -> dict[str, dict[str, Maker]]:
    """Return every policy's settings to choose among, by name; what is learnt is learnt when asked for."""
    start, plain = Start.of(log), item_values(log, 0.0)
    learnt = cache(
        lambda features: learn_tastes(
            log, start.shown, start.values, start.fresh, features, derive_seed(seed, "tastes")
        )
    )

    def bandit(discount: float, variance: float, alpha: float, *, thompson: bool) -> Act:
        sampler = torch_generator(seed, "thompson") if thompson else None
        return LinearBandit.of(start, discount, variance, alpha, sampler)

    def reward_bandit(discount: float, variance: float, alpha: float, *, thompson: bool) -> Act:
        sampler = torch_generator(seed, "thompson") if thompson else None
        return RewardBandit.of(log, discount, variance, alpha, sampler)

    def network(discount: float) -> Act:
        learning = teacher_settings().model_copy(
            update={
                "epochs": epochs,
                "negatives": 128,
                "discount": discount,
                "n_step": 2 if discount else 1,
                "response_weight": 0.0,  # its figures were measured without answers, which long_term learns
            }
        )
        with torch.enable_grad():
            return sequence_state(learn_offline(log, Learning(learning), seed))

    def fold_in(width: int, unobserved: float, *, repeats: bool) -> Act:
        options = AlsOptions(features=width, unobserved=unobserved, l2=0.01, exponent=0.5)
        return FoldIn.of(log, options, plain, repeats=repeats)

    discounts = (0.0, 0.5, 0.9)
    return {
        ADAPTED: {
            f"{d} features, discount {g}, bonus {a}": (
                lambda d=d, g=g, a=a: adapted(start, learnt(d), g, a)  # type: ignore[misc]
            )
            for d, g, a in product((4, 6), (0.5, 0.9), (0.1, 0.2, 0.4, 0.6))
        },
        UNADAPTED: {f"discount {g}": lambda g=g: unadapted(start, g) for g in discounts},  # type: ignore[misc]
        STATE: {f"discount {g}": lambda g=g: network(g) for g in discounts},  # type: ignore[misc]
        **{
            name: {
                f"discount {g}, variance {v}, bonus {a}": (
                    lambda make=make, g=g, v=v, a=a, draws=draws: make(g, v, a, thompson=draws)  # type: ignore[misc]
                )
                for g, v, a in product((0.5, 0.9), variances, (0.1, 0.3, 0.6))
            }
            for name, make, variances, draws in (
                (LINUCB, bandit, (0.03, 0.3), False),
                (f"{LINUCB}, on rewards", reward_bandit, (0.001, 0.01), False),
                (THOMPSON, bandit, (0.03, 0.3), True),
                (f"{THOMPSON}, on rewards", reward_bandit, (0.001, 0.01), True),
            )
        },
        FOLD_IN: {
            f"{d} features, unobserved {u}, {'again' if r else 'once'}": (
                lambda d=d, u=u, r=r: fold_in(d, u, repeats=r)  # type: ignore[misc]
            )
            for d, u, r in product((8, 32), (0.01, 0.1, 1.0), (True, False))
        },
    }


def logged(world: World, seed: int, users: int) -> PreparedLog:
    """Return what the logging policy showed to users and what they answered."""
    chance = numpy_generator(seed, "first-twenty log")
    return prepared_actions(world, *simulate(world, logging_policy(world), users, chance, ARRIVAL_DAYS))


def play(
    world: World, log: PreparedLog, act: Act | WorldPolicy, users: int, seed: int
) -> npt.NDArray[np.float64]:
    """Return what each of some new users has brought by each step, (step, user)."""
    chance = numpy_generator(seed, "first-twenty play")
    oracle = np.random.default_rng(chance.integers(2**63))
    sessions = BatchedSessions(world, users, STEPS, chance, log.info.event_types)
    reward, item = np.zeros((STEPS, users)), np.zeros(users, np.int64)
    for step in range(STEPS):
        rows = np.flatnonzero(~sessions.ended)
        if len(rows) == 0:
            break
        if callable(act):
            with torch.no_grad():
                item[rows] = act(sessions.state(rows)).numpy()
        else:
            item[rows] = act.act(sessions.users.at(rows), oracle)[0]
        reward[step] = sessions.step(item).reward
    return reward.cumsum(axis=0)


def chosen_settings(players: int, users: int, epochs: int, wanted: Sequence[str]) -> dict[str, str]:
    """Return the settings of every wanted policy that brought most in the world of the tuning seed."""
    world = make_world(many_tastes(), TUNING_SEED)
    log = logged(world, TUNING_SEED, users)
    chosen = {}
    for name, makers in candidates(log, TUNING_SEED, epochs).items():
        if name not in wanted:
            continue
        worth = {
            key: play(world, log, make(), players, TUNING_SEED)[-1].mean() for key, make in makers.items()
        }
        chosen[name] = max(worth, key=lambda key: worth[key])
        print(
            f"{name}: {chosen[name]} of {json.dumps({k: round(v, 3) for k, v in worth.items()})}",
            file=sys.stderr,
        )
    return chosen


def run_seed(seed: int, chosen: dict[str, str], players: int, users: int, epochs: int) -> dict[str, Any]:
    """Return returns and regret of every policy in the world of one seed."""
    world = make_world(many_tastes(), seed)
    log = logged(world, seed, users)
    makers = candidates(log, seed, epochs)
    brought = {name: play(world, log, makers[name][key](), players, seed) for name, key in chosen.items()}
    for policy in (myopic_policy(world), optimal_policy(world)):
        brought[f"{policy.name}, sees the hidden state"] = play(world, log, policy, players, seed)
    best = brought["optimal, sees the hidden state"].mean(axis=1)

    def interval(values: FloatArray, name: str) -> dict[str, float]:
        return asdict(bootstrap_mean(values, 2000, 0.95, numpy_generator(seed, f"bootstrap-{name}")))

    final = {name: values[-1].astype(np.float32) for name, values in brought.items()}
    return {
        "return": {name: interval(values, name) for name, values in final.items()},
        "adapted_minus": {
            name: interval(final[ADAPTED] - values, f"minus {name}")
            for name, values in final.items()
            if name != ADAPTED
        },
        "regret": {name: (best - values.mean(axis=1)).tolist() for name, values in brought.items()},
    }


def markdown(runs: dict[str, Any]) -> str:
    """Return returns over twenty interactions, and each seed's paired differences."""
    seeds = list(runs)
    lines = [f"| policy | {' | '.join(f'seed {seed}' for seed in seeds)} |", "|---" * (len(seeds) + 1) + "|"]
    for name in runs[seeds[0]]["return"]:
        cells = [f"{runs[seed]['return'][name]['mean']:.3f}" for seed in seeds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in runs[seeds[0]]["adapted_minus"]:
        found = [runs[seed]["adapted_minus"][name] for seed in seeds]
        cells = [f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" for one in found]
        lines.append(f"| adapted − {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def regret_svg(runs: dict[str, Any]) -> str:
    """Return mean regret over seeds by interaction as a small picture."""
    names = [name for name in next(iter(runs.values()))["regret"] if "optimal" not in name]
    curves = {name: np.mean([run["regret"][name] for run in runs.values()], axis=0) for name in names}
    width, height, left, top = 560, 320, 50, 20
    most = max(float(curve.max()) for curve in curves.values())
    colours = ("#1b6ca8", "#999999", "#c8553d", "#588b8b", "#8a4fbf", "#c9a227", "#444444")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 230} {height + 60}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width + 230}" height="{height + 60}" fill="white"/>',
        f'<text x="{left}" y="{height + top + 32}">interactions</text>',
        f'<text x="{left}" y="12">regret</text>',
    ]
    for value in np.linspace(0, most, 5):
        y = top + height * (1 - value / most)
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="8" y="{y + 4:.1f}">{value:.1f}</text>')
    for place in (1, 5, 10, 15, 20):
        x = left + (width - left) * (place - 1) / (STEPS - 1)
        parts.append(f'<text x="{x - 4:.1f}" y="{height + top + 16}">{place}</text>')
    ranked = sorted(curves, key=lambda name: -curves[name][-1])
    for row, name in enumerate(ranked):
        colour = colours[names.index(name) % len(colours)]
        xs = left + (width - left) * np.arange(STEPS) / (STEPS - 1)
        points = " ".join(
            f"{x:.1f},{top + height * (1 - y / most):.1f}" for x, y in zip(xs, curves[name], strict=True)
        )
        drawn = f'stroke="{colour}" stroke-width="{3 if name == ADAPTED else 1.6}"'
        parts.append(f'<polyline points="{points}" fill="none" {drawn}/>')
        y = top + 14 + 20 * row
        parts.append(f'<line x1="{width + 12}" x2="{width + 34}" y1="{y - 4}" y2="{y - 4}" {drawn}/>')
        parts.append(f'<text x="{width + 40}" y="{y}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Choose settings in one world, play the others, print the table, keep figures and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--users", type=int, default=LOGGED, help="of the log")
    parser.add_argument("--players", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=12, help="of the sequence network")
    parser.add_argument(
        "--policies",
        type=lambda text: text.split(";"),
        default=list(POLICIES),
        help="separated by semicolons",
    )
    asked = parser.parse_args()
    if unknown := set(asked.policies) - set(POLICIES):
        parser.error(f"--policies names {sorted(unknown)}; choose among {', '.join(POLICIES)}")
    torch.set_num_threads(1)
    chosen = chosen_settings(asked.players, asked.users, asked.epochs, asked.policies)
    runs: dict[str, Any] = {}
    for seed in (int(text) for text in asked.seeds.split(",")):
        runs[str(seed)] = run_seed(seed, chosen, asked.players, asked.users, asked.epochs)
        asked.out.write_text(json.dumps({"chosen": chosen, "seeds": runs}, indent=1) + "\n", encoding="utf-8")
    if asked.svg is not None:
        asked.svg.write_text(regret_svg(runs), encoding="utf-8")
    print(markdown(runs))


if __name__ == "__main__":
    run_command(main)
