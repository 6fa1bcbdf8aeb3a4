"""Inner loops side by side: the same teacher, tasks, evidence and outer loop; only how a support set moves Q differs.

    python -m pipelines.experiments.inner_loops --log online-retail --seeds 7,8,9 --out FILE

`closed form` is what is served. `head`, `context` and `full` are gradient loops (recsys/gradient_adaptation.py).
`no fast weights` is the teacher before the outer loop. With `--set memory.features=0` the teacher has no memory, and
the inner loop is all that adapts. Validation users choose each loop's epoch, test users mark it once; differences are
paired over users, with the closed form and with no fast weights. Tasks per CPU second are those of the outer loop.
What it costs old users: NDCG@10 of warm users by the teacher before the outer loop, and after it in prior mode and
adapted to their own events (a split by users has no warm users).
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from rich.console import Console

from pipelines.experiments.command import run_command
from pipelines.experiments.questions import Question, warm_question
from pipelines.experiments.ranking import run_parser, with_new_tasks
from pipelines.metatrain import table_of
from pipelines.outer_loop import OuterLoop
from pipelines.runner import run_steps, settle_chance
from pipelines.stages import all_steps
from recsys.adaptation import AdaptationPrior, InnerLoop
from recsys.config import RunConfig
from recsys.evaluation.cold_start import ColdCases, cold_cases
from recsys.evaluation.curve import kshot_curve
from recsys.evaluation.intervals import bootstrap_mean
from recsys.evaluation.warm import warm_cases
from recsys.gradient_adaptation import GradientLoop, HeadKind
from recsys.learning.optimizer import BestEpoch
from recsys.logs.prepared import Role, open_prepared
from recsys.policies.q_policy import Adaptation, QPolicy
from recsys.randomness import numpy_generator
from recsys.types import FloatArray

CLOSED, NONE = "closed form", "no fast weights"
KINDS: dict[str, HeadKind] = {"head": "head", "context": "context", "full": "full"}
LOOPS = (CLOSED, *KINDS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare on one log, for every seed."""
    asked = parsed(arguments)
    torch.set_num_threads(1)
    console = Console(stderr=True)
    runs = {}
    for seed in asked.seeds:
        config = with_new_tasks(asked, f"loops-{asked.log}-{seed}", seed)
        runs[str(seed)] = compare(config, asked, console)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        report = {"log": asked.log, "steps": asked.steps, "set": asked.set, "seeds": runs}
        asked.out.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(markdown(runs))


def compare(config: RunConfig, asked: argparse.Namespace, console: Console) -> dict[str, object]:
    """Return the marks of every loop on the test users of one seed."""
    outcomes = {done.step: done.folder for done in run_steps(config, all_steps(), ("pretrain",), console)}
    log = open_prepared(outcomes["prepare"])
    settle_chance(config, "inner-loops")
    settings = config.evaluate

    def users(role: Role, name: str) -> ColdCases:
        return cold_cases(
            log, role, max(settings.shots), settings.max_users, numpy_generator(config.seed, name)
        )

    validation, test = users(Role.COLD_VALIDATION, "validation"), users(Role.COLD_TEST, "test")
    old = warm_question(log, warm_cases(log, settings.max_users, numpy_generator(config.seed, "warm-test")))
    forgetting: dict[str, dict[str, dict[str, float]]] = {}
    marks: dict[str, FloatArray] = {}
    chosen: dict[str, dict[str, float]] = {}
    for name in asked.loops:
        outer = OuterLoop.begin(log, outcomes["pretrain"], config, _maker(name, asked.steps))
        if NONE not in marks:
            marks[NONE] = ndcg_of(outer, None, test)
        before = [warm_marks(outer, question, None) for question in old]
        marks[name], chosen[name] = trained(outer, validation, test)
        for question, was in zip(old, before, strict=True):
            forgetting[name] = {}
            for mode, reads in (("prior mode", False), ("adapted", True)):
                now = warm_marks(outer, question, reads)
                chance = numpy_generator(config.seed, f"bootstrap-warm-{name}-{mode}")
                change = bootstrap_mean(now - was, settings.bootstrap, settings.confidence, chance)
                forgetting[name][mode] = asdict(change) | {
                    "before": float(was.mean()),
                    "after": float(now.mean()),
                }
        console.print(f"[{config.name}] {name}: {chosen[name]}", highlight=False, markup=False)

    def paired(name: str, rival: str) -> list[dict[str, float]]:
        chance = numpy_generator(config.seed, f"bootstrap-{name}-{rival}")
        differences = marks[name] - marks[rival]
        return [
            asdict(bootstrap_mean(row, settings.bootstrap, settings.confidence, chance))
            for row in differences
        ]

    return {
        "shots": list(settings.shots),
        "users": len(test),
        "means": {name: values.mean(axis=1).tolist() for name, values in marks.items()},
        "chosen": chosen,
        "warm": forgetting,
        f"minus {NONE}": {name: paired(name, NONE) for name in asked.loops},
        f"minus {CLOSED}": {name: paired(name, CLOSED) for name in asked.loops if CLOSED in marks},
    }


def _maker(name: str, steps: int) -> Callable[[AdaptationPrior], GradientLoop] | None:
    return None if name == CLOSED else lambda prior: GradientLoop(prior, KINDS[name], steps)


def trained(outer: OuterLoop, validation: ColdCases, test: ColdCases) -> tuple[FloatArray, dict[str, float]]:
    """Run the outer loop; return test marks, (shots, user), at the epoch that validated best."""
    learner, settings = outer.learner, outer.config.metatrain
    loop = learner.loop
    modules = [learner.network, learner.head, *([loop] if isinstance(loop, GradientLoop) else [])]
    best = BestEpoch(settings.patience)
    best.offer(float(ndcg_of(outer, loop, validation).mean()), modules, -1)
    before, seconds, epochs = best.quality, 0.0, 0
    for epoch in range(settings.epochs):
        started = time.process_time()
        for _ in outer.epoch(1.0 - epoch / settings.epochs):
            pass
        seconds += time.process_time() - started
        epochs += 1
        if best.offer(float(ndcg_of(outer, loop, validation).mean()), modules, epoch):
            break
    best.restore(modules)
    return ndcg_of(outer, loop, test), {
        "before": round(before, 4),
        "validation": round(best.quality, 4),
        "epoch": best.epoch + 1,
        "tasks_per_cpu_second": round(epochs * len(outer.starts) / seconds, 1),
    }


def ndcg_of(outer: OuterLoop, loop: InnerLoop | None, cases: ColdCases) -> FloatArray:
    """Return NDCG of every user after every number of events, (shots, user)."""
    config, learner = outer.config, outer.learner
    table = table_of(learner.network, learner.head)
    return kshot_curve(
        learner.network,
        table,
        loop,
        cases,
        config.evaluate.shots,
        config.evaluate.cutoff,
        config.pretrain.discount,
    ).adapted


def warm_marks(outer: OuterLoop, question: Question, reads_events: bool | None) -> FloatArray:
    """Return NDCG of warm users, (user,), by the network alone (None), in prior mode, or adapted to their events."""
    config, learner = outer.config, outer.learner
    how = None
    if reads_events is not None:
        table = table_of(learner.network, learner.head)
        how = Adaptation(learner.loop, table, config.pretrain.discount, reads_events)
    return question.marks(QPolicy(learner.network, config.state.max_events, how))["ndcg@10"]


def markdown(runs: dict[str, dict[str, object]]) -> str:
    """Return means over seeds, and each seed's differences, as one table."""
    reports: list[dict] = list(runs.values())  # type: ignore[type-arg]
    shots = reports[0]["shots"]
    lines = [f"| NDCG@10 | {' | '.join(f'k = {k}' for k in shots)} |", "|---" * (len(shots) + 1) + "|"]
    for name in reports[0]["means"]:
        means = np.mean([report["means"][name] for report in reports], axis=0)
        lines.append(f"| {name} | {' | '.join(f'{value:.4f}' for value in means)} |")
    for rival in (NONE, CLOSED):
        for name in reports[0][f"minus {rival}"]:
            for seed, report in runs.items():
                cells = [
                    f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
                    for d in report[f"minus {rival}"][name]  # type: ignore[index]
                ]
                if name != rival:
                    lines.append(f"| {name} − {rival}, seed {seed} | {' | '.join(cells)} |")
    for name in reports[0]["warm"]:
        for mode in reports[0]["warm"][name]:
            for seed, report in runs.items():
                one = report["warm"][name][mode]  # type: ignore[index]
                change = f"{one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
                lines.append(
                    f"\nwarm, {name}, {mode}, seed {seed}: {one['before']:.4f} to {one['after']:.4f}, {change}"
                )
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = run_parser(__doc__)
    parser.add_argument("--steps", type=int, default=5, help="of a gradient loop")
    parser.add_argument("--loops", type=lambda text: text.split(","), default=list(LOOPS))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.loops) - set(LOOPS):
        parser.error(f"--loops names {sorted(unknown)}; choose among {', '.join(LOOPS)}")
    return asked


if __name__ == "__main__":
    run_command(main)
