"""Ranking on a real log: the teacher beside tuned baselines, warm and cold users apart, full catalogue.

    python -m pipelines.experiments.ranking --log ml-100k --data FOLDER --seeds 7,8,9 --out ranking.json

For every seed: prepare the log, tune every baseline on validation users, fit on all training events, train the teacher
(the `pretrain` step), and mark all of them on the test users, whom nothing before has looked at. Prints a table per
question and writes all figures with paired bootstrap intervals, settings and the record of the search.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

# numerical libraries read this when they load
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402

from pipelines.configuration import resolve_config  # noqa: E402
from pipelines.experiments.command import run_command  # noqa: E402
from pipelines.experiments.contestants import (  # noqa: E402
    BASELINES,
    Budget,
    Validation,
    mean_over,
    tuned_and_fitted,
)
from pipelines.experiments.questions import PerUser, Question, cold_questions, warm_question  # noqa: E402
from pipelines.experiments.table import markdown  # noqa: E402
from pipelines.runner import run_steps, settle_chance  # noqa: E402
from pipelines.stages import all_steps  # noqa: E402
from recsys.config import RunConfig  # noqa: E402
from recsys.errors import UserError  # noqa: E402
from recsys.evaluation.cold_start import cold_cases  # noqa: E402
from recsys.evaluation.intervals import bootstrap_mean  # noqa: E402
from recsys.evaluation.warm import warm_cases  # noqa: E402
from recsys.learning.checkpoint import load_teacher  # noqa: E402
from recsys.logs.prepared import PreparedLog, Role, open_prepared  # noqa: E402
from recsys.policies.policy import ScoringPolicy  # noqa: E402
from recsys.policies.q_policy import QPolicy  # noqa: E402
from recsys.randomness import numpy_generator  # noqa: E402

LOGS = ("online-retail", "complete-journey", "ml-100k", "ml-1m")
TEACHER = "teacher"
CONTROL = "teacher_without_memory"  # trained apart: its state is all that knows the user
CONFIGS = Path(__file__).parent / "configs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare on one log, for every seed."""
    asked = parsed(arguments)
    console = Console(stderr=True)
    runs = {}
    for seed in asked.seeds:
        config = resolve_config(
            str(CONFIGS / f"{asked.log}.toml"),
            [
                *asked.set,
                f"seed={seed}",
                f"name=ranking-{asked.log}-{seed}",
                f"output={asked.runs}",
                *([f"prepare.log.path={asked.data}"] if asked.data else []),
            ],
        )
        runs[str(seed)] = compare(config, asked.policies, asked.budget, console)
        report = {"log": asked.log, "budget": asdict(asked.budget), "seeds": runs}
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(markdown(report))


def compare(config: RunConfig, wanted: Sequence[str], budget: Budget, console: Console) -> dict[str, object]:
    """Return the figures of one seed."""

    def say(text: str) -> None:
        console.print(f"[{config.name}] {text}", highlight=False, markup=False)

    outcomes = run_steps(config, all_steps(), ("prepare",), console)
    log = open_prepared(outcomes[-1].folder)
    settle_chance(config, "ranking")
    validation = Validation.of(log, config.evaluate, config.seed)
    questions = test_questions(log, config)
    if not questions:
        raise UserError(
            f"0 test users with more than {max(config.evaluate.shots)} events or events after the cut; "
            "move prepare.split.test_from or raise test_share"
        )
    baselines = [name for name in wanted if name not in (TEACHER, CONTROL)]
    found = tuned_and_fitted(log, validation, baselines, budget, config.seed, say)
    teacher = {TEACHER: train_teacher(config, console)} if TEACHER in wanted else {}
    if CONTROL in wanted:
        teacher[CONTROL] = train_teacher(without_memory(config), console)
    marks = {
        question.name: {
            name: question.marks(policy) for name, policy in (found.policies[question.kind] | teacher).items()
        }
        for question in questions
    }
    return {
        "split": f"test from {log.info.test_from}" if log.info.test_from else "users held out",
        "items": log.info.items,
        "users": {question.name: len(question) for question in questions},
        "validation_users": {kind: len(asked[0]) for kind, asked in validation.kinds.items()},
        "warm": "training users after the cut" if log.info.test_from else "none: a split by users has none",
        "tuning": found.tuning,
        "validation_cold_ndcg": {
            name: mean_over(validation.kinds.get("cold", []), p)
            for name, p in (found.policies["cold"] | teacher).items()
        },
        "test": {name: summary(by_policy, config, name) for name, by_policy in marks.items()},
    }


def test_questions(log: PreparedLog, config: RunConfig) -> list[Question]:
    """Return what test users ask: warm ones once, cold ones after every number of support events."""
    settings = config.evaluate
    chance = numpy_generator(config.seed, "test")
    cold = cold_cases(log, Role.COLD_TEST, max(settings.shots), settings.max_users, chance)
    warm = warm_cases(log, settings.max_users, numpy_generator(config.seed, "warm-test"))
    return [*warm_question(log, warm), *cold_questions(log, cold, settings.shots)]


def train_teacher(config: RunConfig, console: Console) -> ScoringPolicy:
    """Return the teacher that the `pretrain` step makes of the prepared log."""
    folder = run_steps(config, all_steps(), ("pretrain",), console)[-1].folder
    return QPolicy(load_teacher(folder, config.pretrain.temperature), config.state.max_events)


def without_memory(config: RunConfig) -> RunConfig:
    """Return the same run without a memory, under a name of its own."""
    memory = config.memory.model_copy(update={"features": 0})
    return config.model_copy(update={"memory": memory, "name": f"{config.name}-{CONTROL}"})


def summary(by_policy: dict[str, PerUser], config: RunConfig, question: str) -> dict[str, object]:
    """Return means with intervals, and the paired difference of the teacher from every baseline."""
    settings = config.evaluate

    def interval(values: np.ndarray, name: str) -> dict[str, float]:
        generator = numpy_generator(config.seed, f"bootstrap-{question}-{name}")
        return asdict(bootstrap_mean(values, settings.bootstrap, settings.confidence, generator))

    means = {
        name: {metric: interval(values, metric) for metric, values in marks.items()}
        for name, marks in by_policy.items()
    }
    teacher = by_policy.get(TEACHER)
    paired = {
        name: {metric: interval(teacher[metric] - values, metric) for metric, values in marks.items()}
        for name, marks in by_policy.items()
        if teacher is not None and name != TEACHER
    }
    return {"means": means, "teacher_minus": paired}


def run_parser(description: str | None, *, with_out: bool = True) -> argparse.ArgumentParser:
    """Return what every comparison on a log is asked for: the log, seeds, where to, overrides."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", choices=LOGS, required=True)
    parser.add_argument("--data", type=Path, help="folder of the log in its official layout")
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[7, 8, 9]
    )
    if with_out:
        parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    return parser


def with_new_tasks(
    asked: argparse.Namespace, name: str, seed: int, overrides: Sequence[str] = ()
) -> RunConfig:
    """Return the log's config with users kept for the outer loop, which the comparison of teachers does without."""
    return resolve_config(
        str(CONFIGS / f"{asked.log}.toml"),
        [
            "pretrain.new_task_share=0.15",
            *asked.set,
            *overrides,
            f"seed={seed}",
            f"name={name}",
            f"output={asked.runs}",
            *([f"prepare.log.path={asked.data}"] if asked.data else []),
        ],
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = run_parser(__doc__)
    parser.add_argument(
        "--policies", type=lambda text: text.split(","), default=[*BASELINES, TEACHER], help="comma-separated"
    )
    Budget.add_options(parser)
    asked = parser.parse_args(arguments)
    known = [*BASELINES, TEACHER, CONTROL]
    unknown = set(asked.policies) - set(known)
    if unknown:
        parser.error(f"--policies names {sorted(unknown)}; choose among {', '.join(known)}")
    asked.budget = Budget.of(asked)
    return asked


if __name__ == "__main__":
    run_command(main)
