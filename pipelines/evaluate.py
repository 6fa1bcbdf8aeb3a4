"""Evaluate: the served object itself, on cold users, beside popularity and item-kNN.

One query set for every number of support events; baselines are tuned on the validation users.
"""

import json
from dataclasses import asdict

import numpy as np

from pipelines.cases import require_test_cases, test_cases, validation_cases
from pipelines.metatrain import table_of
from pipelines.publish import BUNDLE, EVALUATION
from pipelines.steps import Step, StepContext, Summary
from recsys.adaptation import AdaptationHead
from recsys.config import EvaluateConfig
from recsys.evaluation.cold_start import ColdCases, without_attributes
from recsys.evaluation.curve import kshot_lists
from recsys.evaluation.intervals import bootstrap_mean
from recsys.evaluation.ranking import QuerySets, hits, ndcg, recall
from recsys.evaluation.served import scored_lists, served_lists
from recsys.learning.checkpoint import load_head, load_teacher
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.models.q_network import QNetwork
from recsys.policies.spaces import cold_bench
from recsys.randomness import numpy_generator
from recsys.recommender import load_recommender
from recsys.types import FloatArray, IntArray

RIVALS = ("unadapted", "teacher_unadapted", "pretrained", "popularity", "item_knn")
Lists = dict[str, dict[int, IntArray]]  # policy -> shots -> (user, position)


def run(context: StepContext) -> Summary:
    """Rank the whole catalogue for every cold test user after k events and write evaluation.json."""
    settings = context.config.evaluate
    log = open_prepared(context.inputs["prepare"])
    cases = test_cases(context, log)
    lists, tuned = all_lists(context, log, cases)
    per_user = {
        name: {k: quality(ranked, cases.query) for k, ranked in by_shots.items()}
        for name, by_shots in lists.items()
    }
    report = {
        "users": len(cases),
        "split": split_text(log),
        "trained_until": log.info.trained_until,
        "cutoff": settings.cutoff,
        "policies": {name: intervals(context, by_shots) for name, by_shots in per_user.items()},
        "paired": {
            str(k): {
                f"adapted_minus_{other}": interval(
                    context, per_user["adapted"][k]["ndcg"] - per_user[other][k]["ndcg"], f"{other}-{k}"
                )
                for other in RIVALS
            }
            for k in settings.shots
        },
        "slices": {
            "basket_completion": slice_table(context, lists, cases.basket_completion),
            "next_session": slice_table(context, lists, cases.next_session),
        },
        "baselines": tuned,
    }
    (context.out / EVALUATION).write_text(
        json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    return headline(report, settings)


def all_lists(context: StepContext, log: PreparedLog, cases: ColdCases) -> tuple[Lists, dict[str, object]]:
    """Return the lists of every policy at every number of shots, and the tuned settings of the baselines."""
    settings = context.config.evaluate
    recommender = load_recommender(context.inputs["index"] / BUNDLE)
    temperature = context.config.pretrain.temperature
    anonymous = without_attributes(cases)
    validation = validation_cases(context, log)
    bench = cold_bench(log, validation, settings.shots, settings.cutoff, context.seed)
    popularity = bench.popularity()
    item_knn = bench.item_knn(popularity.policy)
    context.progress.start(len(cases) * len(settings.shots) * 3, "list", "cold test users")

    def served(k: int, **how: bool) -> IntArray:
        return served_lists(recommender, cases, k, settings.cutoff, on_case=context.progress.advance, **how)

    lists: Lists = {
        "adapted": {k: served(k, adapt=True) for k in settings.shots},
        "unadapted": {k: served(k, adapt=False) for k in settings.shots},
        "popularity": {
            k: scored_lists(popularity.policy.scores, cases, k, settings.cutoff) for k in settings.shots
        },
        "item_knn": {
            k: scored_lists(item_knn.policy.scores, cases, k, settings.cutoff) for k in settings.shots
        },
        "adapted_exploring": {k: served(k, adapt=True, greedy=False) for k in settings.shots},
        "adapted_no_attributes": {
            k: served_lists(recommender, anonymous, k, settings.cutoff, adapt=True) for k in settings.shots
        },
        "teacher_unadapted": teacher_lists(
            context,
            cases,
            load_teacher(context.inputs["metatrain"], temperature),
            load_head(context.inputs["metatrain"] / "head.safetensors"),
        ),
        "pretrained": teacher_lists(
            context, cases, load_teacher(context.inputs["pretrain"], temperature), None
        ),
    }
    return lists, {"popularity": popularity.report(), "item_knn": item_knn.report()}


def teacher_lists(
    context: StepContext, cases: ColdCases, teacher: QNetwork, head: AdaptationHead | None
) -> dict[int, IntArray]:
    """Return what a teacher ranks: controls that the served object has to beat.

    The pretrained one has no head, so its memory is all that adapts; the metatrained one ranks by its state alone.
    """
    config, shots = context.config, context.config.evaluate.shots
    prior = None if head is None else head.prior
    by_memory, by_state = kshot_lists(
        teacher,
        table_of(teacher, head),
        prior,
        cases,
        shots,
        config.evaluate.cutoff,
        config.pretrain.discount,
    )
    return dict(zip(shots, by_memory if head is None else by_state, strict=True))


def quality(ranked: IntArray, query: QuerySets) -> dict[str, FloatArray]:
    """Return each metric of each user."""
    hit = hits(ranked, query)
    return {"ndcg": ndcg(hit, query.sizes), "recall": recall(hit, query.sizes)}


def interval(context: StepContext, values: FloatArray, name: str) -> dict[str, float]:
    """Return mean, low and high over users; the same name draws the same resamples."""
    settings = context.config.evaluate
    generator = numpy_generator(context.seed, f"bootstrap-{name}")
    return asdict(bootstrap_mean(values, settings.bootstrap, settings.confidence, generator))


def intervals(context: StepContext, by_shots: dict[int, dict[str, FloatArray]]) -> dict[str, object]:
    """Return the intervals of every metric at every number of shots."""
    return {
        str(k): {metric: interval(context, values, f"{metric}-{k}") for metric, values in metrics.items()}
        for k, metrics in by_shots.items()
    }


def slice_table(context: StepContext, lists: Lists, query: QuerySets) -> dict[str, object]:
    """Return the intervals over the users for whom a slice asks something."""
    asked = np.flatnonzero(query.sizes > 0)
    table: dict[str, object] = {}
    for name, by_shots in lists.items():
        per_user = {
            k: {metric: values[asked] for metric, values in quality(ranked, query).items()}
            for k, ranked in by_shots.items()
        }
        table[name] = intervals(context, per_user)
    return table


def split_text(log: PreparedLog) -> str:
    """Return who the cold users are."""
    return f"first seen from {log.info.test_from[:10]}" if log.info.test_from else "held out"


def headline(report: dict, settings: EvaluateConfig) -> Summary:  # type: ignore[type-arg]
    """Return the figures shown when the step ends."""
    k = max(k for k in settings.shots if k <= 5)
    return {"users": report["users"]} | {
        f"{name}@{k}": round(report["policies"][name][str(k)]["ndcg"]["mean"], 4)
        for name in ("adapted", "unadapted", "item_knn", "popularity")
    }


STEP = Step(
    name="evaluate",
    run=run,
    inputs=("prepare", "pretrain", "metatrain", "index"),
    settings=lambda config: {
        "evaluate": config.evaluate,
        "temperature": config.pretrain.temperature,
    },
    early={"prepare": require_test_cases},
)
