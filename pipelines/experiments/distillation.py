"""What a student keeps of its teacher, what each part of distilling brings, and what both cost for one user.

    python -m pipelines.experiments.distillation --log online-retail --seeds 7,8,9 --out distillation.json

For every seed the teacher is trained once (`metatrain`), then a student for every variant (`distill`), each with its
epoch chosen on validation users; all meet the test users once. `no teacher` is the control: the same student over the
same item vectors, which learns from the log alone. `ensemble` has the teachers of the other seeds too. NDCG@10 over the
full catalogue after k events; differences paired by user, averaged over seeds, users bootstrapped. Milliseconds are CPU
time for one user with at most twenty events and 200 candidates, medians, taking turns: the teacher in PyTorch on one
thread, the student as it is served. The file grows by one student at a time; with the same --out a stopped run goes on.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file

from pipelines.cases import test_cases
from pipelines.distill import member, parameters
from pipelines.experiments.command import opened_report, run_command
from pipelines.experiments.ranking import run_parser, with_new_tasks
from pipelines.experiments.stopwatch import cpu_ms
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from pipelines.steps import StepContext
from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.candidates.inner_products import inner_products
from recsys.config import RunConfig
from recsys.evaluation.agreement import agreement
from recsys.evaluation.cold_start import ColdCases, history_of
from recsys.evaluation.intervals import bootstrap_mean
from recsys.learning.checkpoint import load_student, load_table
from recsys.learning.teachers import Learner
from recsys.logs.prepared import PreparedLog, open_prepared, training_histories
from recsys.mdp.state import History, encode_states
from recsys.models.student import StudentNetwork
from recsys.request_form import RequestForm

STUDENT, CONTROL, ENSEMBLE = "student", "no teacher", "ensemble"
VARIANTS: dict[str, list[str]] = {
    STUDENT: [],
    CONTROL: [
        "distill.from_teacher=false",
        "distill.next_item_weight=1",
        "distill.index_top=0",  # hard negatives bend a softmax over sampled ones
        "distill.random_candidates=1000",
    ],
    ENSEMBLE: [],
    "no KL": ["distill.kl_weight=0"],
    "no advantages": ["distill.advantage_weight=0"],
    "hard next item": ["distill.next_item_weight=0.2"],
    "no adapted states": ["distill.adapted_weight=0"],
    "no candidates of the index": ["distill.index_top=0"],
    "GRU": ["distill.encoder=recurrent"],
    "hidden 48": ["distill.hidden=48"],
}
EVENTS, CANDIDATES, TURNS = 20, 200, 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and mark what is missing in the file, then print the table."""
    asked = parsed(arguments)
    torch.set_num_threads(1)
    console = Console(stderr=True)
    report = opened_report(asked.out, asked.log, asked.set, "variants")
    for seed in asked.seeds:
        for variant in asked.variants:
            done = report["variants"].setdefault(variant, {})
            if str(seed) in done:
                continue
            done[str(seed)] = marks(asked, variant, seed, console)
            asked.out.write_text(json.dumps(report) + "\n", encoding="utf-8")
    print(markdown(report))


def config_of(asked: argparse.Namespace, variant: str, seed: int) -> RunConfig:
    """Return the log's config with a variant's overrides; variants of a seed share a folder, and so the teacher."""
    config = with_new_tasks(asked, f"distillation-{asked.log}-{seed}", seed, VARIANTS[variant])
    if variant != ENSEMBLE:
        return config
    others = tuple(asked.runs / f"distillation-{asked.log}-{each}" for each in asked.seeds if each != seed)
    return config.model_copy(update={"distill": config.distill.model_copy(update={"ensemble": others})})


def marks(asked: argparse.Namespace, variant: str, seed: int, console: Console) -> dict[str, Any]:
    """Return every mark of each cold test user for one variant and seed."""
    if variant == ENSEMBLE:
        for other in asked.seeds:
            run_steps(config_of(asked, STUDENT, other), all_steps(), ("metatrain",), console)
    config = config_of(asked, variant, seed)
    outcomes = {o.step: o for o in run_steps(config, all_steps(), ("distill",), console)}
    log = open_prepared(outcomes["prepare"].folder)
    teachers = [
        member(folder, config)
        for folder in (outcomes["metatrain"].folder, *(run / "metatrain" for run in config.distill.ensemble))
    ]
    student = student_of(outcomes["distill"].folder)
    cases = test_cases(StepContext(config=config, out=asked.runs), log)
    shots, cutoff, discount = config.evaluate.shots, config.evaluate.cutoff, config.pretrain.discount
    ranked = [(m.network, m.prior, m.table) for m in teachers]
    alike = agreement(ranked, (student.network, student.prior, student.table), cases, shots, cutoff, discount)
    return {
        "shots": list(shots),
        "users": cases.history.tolist(),
        "teacher": np.round(alike.teacher_ndcg, 5).astype(float).tolist(),
        "student": np.round(alike.student_ndcg, 5).astype(float).tolist(),
        "overlap": np.round(alike.overlap.mean(axis=1), 4).astype(float).tolist(),
        "rank_correlation": np.round(alike.correlation.mean(axis=1), 4).astype(float).tolist(),
        "validation": outcomes["distill"].summary["validation_ndcg"],
        "teacher_parameters": sum(parameters(m.network.states) for m in teachers),
        "student_parameters": parameters(student.network),
        **latencies(teachers, student, config, log, cases),
    }


def student_of(folder: Path) -> Learner:
    """Read what `distill` left in a folder."""
    table, network = load_table(folder / "table.safetensors"), load_student(folder)
    network.vectors = table.vectors
    prior = AdaptationPrior.from_weights(load_file(str(folder / "prior.safetensors")))
    return Learner(network.eval().requires_grad_(False), prior.requires_grad_(False), table)


def latencies(
    teachers: Sequence[Learner], student: Learner, config: RunConfig, log: PreparedLog, cases: ColdCases
) -> dict[str, float]:
    """Return the CPU milliseconds of both for one user and 200 candidates."""
    histories = [history_of(log, int(index), EVENTS) for index in training_histories(log)]
    history = max(histories, key=len)
    chance = np.random.default_rng(0)
    candidates = chance.permutation(len(student.table))[:CANDIDATES]
    discount, max_events = config.pretrain.discount, config.state.max_events
    assert isinstance(student.network, StudentNetwork)  # noqa: S101 - student_of makes no other
    form = RequestForm(student.network, student.prior, student.table, max_events, discount)
    columns = student.table.index_vectors().numpy()
    ways: dict[str, Callable[[], object]] = {
        "teacher_ms": lambda: [in_torch(m, history, candidates, max_events, discount) for m in teachers],
        "student_torch_ms": lambda: in_torch(student, history, candidates, max_events, discount),
        "student_ms": lambda: in_numpy(form, columns, history, candidates),
    }
    return {name: round(ms, 4) for name, ms in cpu_ms(ways, TURNS).items()}


@torch.inference_mode()
def in_torch(
    one: Learner, history: History, candidates: np.ndarray, max_events: int, discount: float
) -> torch.Tensor:
    """Return the adapted Q of candidates as training computes it."""
    batch = encode_states([history], max_events)
    states, last = one.network.state_vectors(batch), int(batch.lengths[0])
    fast = adapt_to_first(batch, states, one.table, one.prior, batch.lengths, discount)
    items = torch.from_numpy(candidates)
    table = one.table
    q = states.value[0, last] + table.vectors[items] @ states.advantage[0, last] + table.bias[items]
    return q + table.features[items] @ fast.mean[0]


def in_numpy(form: RequestForm, columns: np.ndarray, history: History, candidates: np.ndarray) -> np.ndarray:
    """Return the adapted Q of candidates as a request computes it."""
    query, _ = form.query(history, adapt=True, memory=True)
    scores: np.ndarray = inner_products(columns, candidates, query[:-1]) + query[-1]
    return scores


def markdown(report: dict[str, Any]) -> str:
    """Return the table: marks, differences from teacher and control, agreement, parameters, latency."""
    shown = [0, 5]
    heads = [
        *(f"NDCG@10, k = {k}" for k in shown),
        *(f"of its teacher's, k = {k}" for k in shown),
        "mean over k − no teacher",
        "overlap@10",
        "rank correlation",
        "parameters, of its teacher's",
        "ms, of its teacher's",
    ]
    lines = ["| variant | seeds | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    control = report["variants"].get(CONTROL, {})
    for variant, by_seed in report["variants"].items():
        if not by_seed:
            continue
        each = list(by_seed.values())
        places = [each[0]["shots"].index(k) for k in shown]
        student = np.mean([np.mean(one["student"], axis=1) for one in each], axis=0)
        teacher = np.mean([np.mean(one["teacher"], axis=1) for one in each], axis=0)
        mean = {name: float(np.mean([np.mean(one[name]) for one in each])) for name in NUMBERS}
        shared = [seed for seed in by_seed if seed in control and variant != CONTROL]
        cells = [
            *(f"{student[place]:.4f}" for place in places),
            *(f"{student[place] / teacher[place]:.3f}" for place in places),
            paired([by_seed[seed] for seed in shared], [control[seed] for seed in shared]) if shared else "",
            f"{mean['overlap']:.3f}",
            f"{mean['rank_correlation']:.3f}",
            f"{mean['student_parameters']:,.0f}, {mean['student_parameters'] / mean['teacher_parameters']:.3f}",
            f"{mean['student_ms']:.3f}, {mean['student_ms'] / mean['teacher_ms']:.3f}",
        ]
        lines.append(f"| {variant} | {' '.join(by_seed)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


NUMBERS = (
    "overlap",
    "rank_correlation",
    "student_parameters",
    "teacher_parameters",
    "student_ms",
    "teacher_ms",
)


def paired(ones: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> str:
    """Return the mean over users, numbers of shots and seeds of a difference, with its interval over users."""
    by_user: dict[int, list[float]] = {}
    for one, other in zip(ones, others, strict=True):
        difference = np.mean(one["student"], axis=0) - np.mean(other["student"], axis=0)
        for user, value in zip(one["users"], difference.tolist(), strict=True):
            by_user.setdefault(user, []).append(value)
    found = bootstrap_mean(
        np.array([np.mean(values) for values in by_user.values()]), 2_000, 0.95, np.random.default_rng(0)
    )
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = run_parser(__doc__)
    parser.add_argument("--variants", type=lambda text: text.split(","), default=list(VARIANTS))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.variants) - set(VARIANTS):
        parser.error(f"--variants names {sorted(unknown)}; choose among {', '.join(VARIANTS)}")
    if ENSEMBLE in asked.variants and len(asked.seeds) < 2:
        asked.variants.remove(ENSEMBLE)  # there is nobody else to teach
    return asked


if __name__ == "__main__":
    run_command(main)
