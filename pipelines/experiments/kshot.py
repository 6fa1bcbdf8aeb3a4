"""k-shot curves of what is shipped beside everything it has to beat: one query set for every number of events.

    python -m pipelines.experiments.kshot --log ml-1m --data FOLDER --seeds 7,8,9 --marks FOLDER [--policies als,sasrec]

`adapted` is the teacher with all its fast weights (memory and head) after the `metatrain` step, which the student
copies. Its controls: the same state without fast weights; the memory without the head, as pretrained; and the same
network trained apart, without memory, head or users kept back. Baselines are tuned on validation users and fitted on
all training users. The marks of every user are kept in --marks, one file per seed and policy, so that a stopped run
goes on with what is missing; --table prints what is there and trains nothing. Differences are paired over users.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.command import run_command
from pipelines.experiments.contestants import BASELINES, Budget, Validation, tuned_and_fitted
from pipelines.experiments.kshot_marks import MarkedUsers, load_marks, markdown, save_marks
from pipelines.experiments.questions import Question, cold_questions
from pipelines.experiments.ranking import CONFIGS, run_parser, without_memory
from pipelines.metatrain import table_of
from pipelines.runner import run_steps, settle_chance
from pipelines.stages import all_steps
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.evaluation.cold_start import cold_cases
from recsys.learning.checkpoint import load_head, load_teacher
from recsys.logs.prepared import PreparedLog, Role, open_prepared
from recsys.policies.policy import ScoringPolicy
from recsys.policies.q_policy import Adaptation, QPolicy
from recsys.randomness import numpy_generator

ADAPTED, SILENT, MEMORY, APART = "adapted", "no_fast_weights", "memory_without_head", "trained_apart"
OURS = (ADAPTED, SILENT, MEMORY, APART)
KEPT_BACK = 0.15  # of the training users, for the outer loop


def main(arguments: Sequence[str] | None = None) -> None:
    """Mark what has no marks yet, then print the table."""
    asked = parsed(arguments)
    console = Console(stderr=True)
    folder = asked.marks / asked.log
    for seed in asked.seeds if not asked.table else ():
        config = config_of(asked, seed)
        todo = [
            name for name in asked.policies if not load_marks(folder, seed, name, key(config, asked, name))
        ]
        if todo:
            mark(config, todo, asked, folder, console)
    print(markdown(folder, asked.seeds, ADAPTED))


def config_of(asked: argparse.Namespace, seed: int) -> RunConfig:
    """Return the log's config of the comparisons, with users kept back for the outer loop."""
    own = [f"seed={seed}", f"name=kshot-{asked.log}-{seed}", f"output={asked.runs}"]
    path = [f"prepare.log.path={asked.data}"] if asked.data else []
    kept_back = [f"pretrain.new_task_share={KEPT_BACK}"]
    return resolve_config(str(CONFIGS / f"{asked.log}.toml"), [*kept_back, *asked.set, *own, *path])


def key(config: RunConfig, asked: argparse.Namespace, name: str) -> str:
    """Return what a policy's marks depend on: marks under another key are not those asked for."""
    known = config.model_dump(
        mode="json", exclude={"name", "output", "publish", "index", "exploration", "distill"}
    )
    if name in BASELINES:
        known = {part: known[part] for part in ("seed", "prepare", "evaluate")} | asdict(asked.budget)
    return json.dumps(known, sort_keys=True)


def mark(
    config: RunConfig, names: Sequence[str], asked: argparse.Namespace, folder: Path, console: Console
) -> None:
    """Train, fit and mark the named policies of one seed, each as soon as it is ready."""
    log = open_prepared(run_steps(config, all_steps(), ("prepare",), console)[-1].folder)
    settle_chance(config, "kshot")
    settings = config.evaluate
    cases = cold_cases(
        log, Role.COLD_TEST, max(settings.shots), settings.max_users, numpy_generator(config.seed, "test")
    )
    if not len(cases):
        raise UserError(
            f"0 test users with more than {max(settings.shots)} events; lower evaluate.shots or move the split"
        )
    questions = cold_questions(log, cases, settings.shots)
    for name in names:
        policy = (
            baseline(name, log, config, asked.budget, console)
            if name in BASELINES
            else MAKERS[name](config, console)
        )
        marks = marks_of(policy, questions, cases.history, settings.shots)
        save_marks(folder, config.seed, name, key(config, asked, name), marks)
        text = " / ".join(f"{value:.4f}" for value in marks.ndcg.mean(axis=1))
        console.print(f"[{config.name}] {name}: {text}", highlight=False, markup=False)


def marks_of(
    policy: ScoringPolicy, questions: Sequence[Question], users: np.ndarray, shots: Sequence[int]
) -> MarkedUsers:
    """Return NDCG@10 and Recall@20 of every user after every number of events."""
    marks = [question.marks(policy) for question in questions]
    return MarkedUsers(
        np.asarray(shots),
        users,
        np.stack([one["ndcg@10"] for one in marks]),
        np.stack([one["recall@20"] for one in marks]),
    )


def baseline(
    name: str, log: PreparedLog, config: RunConfig, budget: Budget, console: Console
) -> ScoringPolicy:
    """Return a baseline tuned on cold validation users, fitted on all training users."""
    validation = Validation.of(log, config.evaluate, config.seed)
    cold = Validation(validation.log, {kind: q for kind, q in validation.kinds.items() if kind == "cold"})

    def say(text: str) -> None:
        console.print(f"[{config.name}] {text}", highlight=False, markup=False)

    return tuned_and_fitted(log, cold, [name], budget, config.seed, say).policies["cold"][name]


def adapted(config: RunConfig, console: Console) -> ScoringPolicy:
    """Return the metatrained teacher, adapted to what a user has done."""
    network, how = metatrained(config, console)
    return QPolicy(network.network, config.state.max_events, how)


def no_fast_weights(config: RunConfig, console: Console) -> ScoringPolicy:
    """Return the same network with its memory silent and its head as before any event: the state alone."""
    policy, how = metatrained(config, console)
    prior_mode = Adaptation(how.loop, how.table, how.discount, reads_events=False)
    return QPolicy(policy.network, config.state.max_events, prior_mode, remembers=False)


def metatrained(config: RunConfig, console: Console) -> tuple[QPolicy, Adaptation]:
    """Return the network of the `metatrain` step, and how it adapts."""
    outcomes = run_steps(config, all_steps(), ("metatrain",), console)
    network = load_teacher(outcomes[-1].folder, config.pretrain.temperature).eval()
    head = load_head(outcomes[-1].folder / "head.safetensors").eval()
    how = Adaptation(head.prior, table_of(network, head), config.pretrain.discount)
    return QPolicy(network, config.state.max_events), how


def memory_without_head(config: RunConfig, console: Console) -> ScoringPolicy:
    """Return the teacher as pretrained: its memory reads the events, nothing else adapts."""
    folder = run_steps(config, all_steps(), ("pretrain",), console)[-1].folder
    return QPolicy(load_teacher(folder, config.pretrain.temperature), config.state.max_events)


def trained_apart(config: RunConfig, console: Console) -> ScoringPolicy:
    """Return the same network trained without a memory, on all training users, that nothing adapts."""
    alone = without_memory(config)
    everybody = alone.pretrain.model_copy(update={"new_task_share": 0.0})
    alone = alone.model_copy(update={"pretrain": everybody, "name": f"{config.name}-apart"})
    folder = run_steps(alone, all_steps(), ("pretrain",), console)[-1].folder
    return QPolicy(load_teacher(folder, config.pretrain.temperature), config.state.max_events)


MAKERS: dict[str, Callable[[RunConfig, Console], ScoringPolicy]] = {
    ADAPTED: adapted,
    SILENT: no_fast_weights,
    MEMORY: memory_without_head,
    APART: trained_apart,
}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = run_parser(__doc__, with_out=False)
    parser.add_argument("--marks", type=Path, required=True, help="folder that keeps every user's marks")
    parser.add_argument("--table", action="store_true", help="print what is kept, train nothing")
    parser.add_argument("--policies", type=lambda text: text.split(","), default=[*BASELINES, *OURS])
    Budget.add_options(parser)
    asked = parser.parse_args(arguments)
    if unknown := set(asked.policies) - {*BASELINES, *OURS}:
        parser.error(f"--policies names {sorted(unknown)}; choose among {', '.join((*BASELINES, *OURS))}")
    asked.budget = Budget.of(asked)
    return asked


if __name__ == "__main__":
    run_command(main)
