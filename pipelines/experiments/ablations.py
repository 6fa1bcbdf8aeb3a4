"""What each part of the teacher brings: it is trained without the part, and both rank for cold test users.

    python -m pipelines.experiments.ablations --log online-retail --seeds 7,8,9 --out ablations.json

A variant is the log's config with a few overrides; `--set` changes all variants alike. Nothing is chosen here, so every
variant meets the test users once. Per user, differences from the full teacher are averaged over seeds; users are
bootstrapped. The file grows by one variant at a time; with the same --out a stopped run goes on with what is missing.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.command import opened_report, run_command
from pipelines.experiments.questions import Question, cold_questions
from pipelines.experiments.ranking import CONFIGS, LOGS, train_teacher
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.config import RunConfig
from recsys.evaluation.cold_start import cold_cases, history_of
from recsys.evaluation.intervals import Interval, bootstrap_mean
from recsys.logs.prepared import Role, open_prepared
from recsys.policies.policy import ScoringPolicy
from recsys.randomness import numpy_generator
from recsys.types import FloatArray

FULL = "full"
RUNGS = {
    FULL: [],
    "target: SARSA": ["pretrain.target=sarsa"],
    "target: max over all candidates": ["pretrain.target=max"],
    "no conservative term": ["pretrain.conservative_weight=0"],
    "no Q-loss": ["pretrain.td_weight=0"],
    "discount 0": ["pretrain.discount=0"],
    "prioritized replay": ["pretrain.replay=prioritized"],
    "8 quantiles": ["pretrain.quantiles=8"],
    "no dueling": ["pretrain.dueling=false"],
    "no memory": ["memory.features=0"],
    "memory without folds": ["memory.folds=0"],
    "no hindsight": ["pretrain.hindsight=0"],
    "recurrent encoder": ["model.encoder=recurrent"],
    "one step": ["pretrain.n_step=1"],
    "single Q (double off)": ["pretrain.double=false"],
    "hard target copy every 100 updates": ["pretrain.target_tau=1", "pretrain.target_interval=100"],
    "no warm-up": ["pretrain.warmup_epochs=0"],
    "response head": ["pretrain.response_weight=0.3"],
}
# a purchase is worth .4 log(1 + revenue), about 1 on average, and a cancellation the same below 0
REVENUE = [
    f"prepare.reward.{part}.{kind}={worth}"
    for part, worth in (("base", 0), ("per_log_value", 0.4))
    for kind in ("purchase", "cancellation")
]
FLAT = ["prepare.reward.base.purchase=1", "prepare.reward.base.cancellation=-1"]
REVENUE_RUNGS = {
    FULL: [],
    "no Q-loss": ["pretrain.td_weight=0"],
    "discount 0": ["pretrain.discount=0"],
    "rewards flattened": [],
    "rewards flattened, discount 0": ["pretrain.discount=0"],
}
MARKS = ("ndcg", "ndcg@k=5", "ndcg@k=10", "weighted")


@dataclass(frozen=True)
class Block:
    """Variants that are marked by the same rewards."""

    variants: dict[str, list[str]]
    rewards: list[str]  # that marks are weighted by, and that train all variants but flattened ones

    def training_rewards(self, variant: str) -> list[str]:
        """Return the overrides of the rewards that a variant trains on."""
        return FLAT if "flattened" in variant else self.rewards


BLOCKS = {"own rewards": Block(RUNGS, []), "revenue": Block(REVENUE_RUNGS, REVENUE)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and mark what is missing in the file, then print the table."""
    asked = parsed(arguments)
    console = Console(stderr=True)
    report = opened_report(asked.out, asked.log, asked.set, "blocks")
    for seed in asked.seeds:
        for name in asked.blocks:
            wanted = [v for v in BLOCKS[name].variants if asked.variants is None or v in asked.variants]
            for variant in wanted:
                done = report["blocks"].setdefault(name, {}).setdefault(variant, {})
                if str(seed) in done:
                    continue
                done[str(seed)] = marks(asked, name, variant, seed, console)
                asked.out.write_text(json.dumps(report) + "\n", encoding="utf-8")
                console.print(f"[{seed}] {name}, {variant}: {done[str(seed)]['validation']}", markup=False)
    print(markdown(report))


def marks(
    asked: argparse.Namespace, block_name: str, variant: str, seed: int, console: Console
) -> dict[str, Any]:
    """Return every mark of each cold test user for one variant and seed."""
    block = BLOCKS[block_name]
    training = config_of(asked, block.training_rewards(variant), seed, block.variants[variant])
    policy, validation = trained(training, console)
    marking = config_of(asked, block.rewards, seed)
    users, questions = questions_of(marking, training, console)
    found = [question.marks(policy) for question in questions]
    ndcg = {question.name: mark["ndcg@10"] for question, mark in zip(questions, found, strict=True)}
    columns = {
        "ndcg": np.mean(list(ndcg.values()), axis=0),
        "ndcg@k=5": ndcg["cold@5"],
        "ndcg@k=10": ndcg["cold@10"],
        "weighted": np.mean([mark["weighted_ndcg@10"] for mark in found], axis=0),
    }
    return {
        "validation": validation,
        "users": users,
        **{name: np.round(values, 5).astype(float).tolist() for name, values in columns.items()},
    }


def config_of(
    asked: argparse.Namespace, rewards: list[str], seed: int, overrides: Sequence[str] = ()
) -> RunConfig:
    """Return the log's config; runs with the same rewards and seed share a folder, and so the prepared log."""
    kind = "own" if not rewards else "flat" if rewards is FLAT else "revenue"
    return resolve_config(
        str(CONFIGS / f"{asked.log}.toml"),
        [
            *([f"prepare.log.path={asked.data}"] if asked.data else []),
            *rewards,
            *asked.set,
            *overrides,
            f"seed={seed}",
            f"name=ablations-{asked.log}-{seed}-{kind}",
            f"output={asked.runs}",
        ],
    )


def trained(config: RunConfig, console: Console) -> tuple[ScoringPolicy, float]:
    """Return a teacher and its validation NDCG@10, mean over numbers of support events."""
    outcome = run_steps(config, all_steps(), ("pretrain",), console)[-1]
    return train_teacher(config, console), float(str(outcome.summary["validation_ndcg"]))


def questions_of(
    marking: RunConfig, training: RunConfig, console: Console
) -> tuple[list[int], list[Question]]:
    """Return the cold test users and what they ask: answers by one log, supports with the rewards of the other."""
    log, seen = (
        open_prepared(run_steps(config, all_steps(), ("prepare",), console)[-1].folder)
        for config in (marking, training)
    )
    settings = marking.evaluate
    chance = numpy_generator(marking.seed, "test")
    cases = cold_cases(log, Role.COLD_TEST, max(settings.shots), settings.max_users, chance)
    first = tuple(history_of(seen, user, max(settings.shots)) for user in cases.history.tolist())
    return cases.history.tolist(), cold_questions(log, replace(cases, first=first), settings.shots)


def difference(variant: dict[str, Any], full: dict[str, Any], mark: str) -> Interval | None:
    """Return variant − full: per user the mean over the seeds that both have, bootstrapped over users."""
    by_user: dict[int, list[float]] = {}
    for seed in sorted(set(variant) & set(full)):
        rival = dict(zip(full[seed]["users"], full[seed][mark], strict=True))
        for user, value in zip(variant[seed]["users"], variant[seed][mark], strict=True):
            if user in rival:
                by_user.setdefault(user, []).append(value - rival[user])
    if not by_user:
        return None
    gaps: FloatArray = np.array([np.mean(gap) for gap in by_user.values()], np.float32)
    return bootstrap_mean(gaps, 2_000, 0.95, numpy_generator(0, f"ablations-{mark}"))


def markdown(report: dict[str, Any]) -> str:
    """Return one table per block: means over seeds, and variant − full with its interval."""
    lines = []
    for name, variants in report["blocks"].items():
        header = ["variant", "seeds", "validation", *MARKS, "ndcg − full", "weighted − full"]
        lines += ["", f"### {report['log']}, {name}", "", _row(header), _row(["---"] * len(header))]
        full = variants.get(FULL, {})
        for variant, seeds in variants.items():
            every = list(seeds.values())
            means = [f"{np.mean([one['validation'] for one in every]):.4f}"]
            means += [f"{np.mean([np.mean(one[mark]) for one in every]):.4f}" for mark in MARKS]
            gaps = [
                "" if variant == FULL else _interval(difference(seeds, full, mark))
                for mark in ("ndcg", "weighted")
            ]
            lines.append(_row([variant, " ".join(seeds), *means, *gaps]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", choices=LOGS, default="online-retail")
    parser.add_argument("--data", type=Path, help="folder of the log in its official layout")
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[7, 8, 9]
    )
    parser.add_argument("--blocks", type=lambda text: text.split(","), default=list(BLOCKS))
    parser.add_argument(
        "--variants", type=lambda text: text.split(";"), help="some of them, by name; ';' between"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    asked = parser.parse_args(arguments)
    for name, given, known in (
        ("--blocks", asked.blocks, set(BLOCKS)),
        ("--variants", asked.variants or [], {v for block in BLOCKS.values() for v in block.variants}),
    ):
        if unknown := sorted(set(given) - known):
            parser.error(f"{name} names {unknown}; choose among {', '.join(sorted(known))}")
    return asked


if __name__ == "__main__":
    run_command(main)
