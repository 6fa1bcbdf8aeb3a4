"""The policies of the comparison: baselines tuned on validation users, then fitted on all that may train.

Settings are chosen where nothing of the test period is known and, under a split by time, one cut earlier
(`recsys/evaluation/warm.py`). Warm and cold users are different tasks, so each kind has a search of its own with the
whole budget, by NDCG@10 (for cold users the mean over numbers of support events): a baseline meets the teacher, which
is one model for both, at its best for either. A kind without enough validation users takes the settings of the other.
The final sequence models are stopped by cold validation users, whom neither fit trains on; for warm users, who train
in the final fit, after as many epochs as their search found best.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from pipelines.experiments.questions import Question, cold_questions, warm_question
from recsys.config import EvaluateConfig
from recsys.evaluation.cold_start import cold_cases
from recsys.evaluation.warm import before_validation, warm_cases
from recsys.logs.prepared import PreparedLog, Role, training_histories
from recsys.policies.policy import ScoringPolicy
from recsys.policies.popularity import Popularity
from recsys.policies.sequence import SequenceOptions, SequencePolicy
from recsys.policies.spaces import Bench
from recsys.policies.tuning import Tuned
from recsys.randomness import numpy_generator

BASELINES = ("popularity", "item_knn", "vsknn", "ease", "als", "gru4rec", "sasrec")
FEWEST = 20  # validation users of a kind below which they choose nothing


@dataclass(frozen=True)
class Budget:
    """What tuning may cost, the same for every policy of a kind."""

    trials: int = 24
    sequence_trials: int = 8
    epochs: int = 10  # of a sequence model, at most
    ease_items: int = 8_000

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Let a command line name each of them: --trials, --sequence-trials, --epochs, --ease-items."""
        for name, default in asdict(cls()).items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)

    @classmethod
    def of(cls, asked: argparse.Namespace) -> Self:
        """Return the budget that a command line asks for."""
        return cls(**{name: getattr(asked, name) for name in asdict(cls())})


@dataclass(frozen=True)
class Validation:
    """The validation users of a log by kind, with the log as it was known before them."""

    log: PreparedLog
    kinds: dict[str, list[Question]]  # "cold", "warm"

    @staticmethod
    def of(log: PreparedLog, settings: EvaluateConfig, seed: int) -> "Validation":
        """Return the users that choose settings, under either kind of split."""
        early = before_validation(log)
        chance = numpy_generator(seed, "validation")
        cold = cold_cases(early, Role.COLD_VALIDATION, max(settings.shots), settings.max_users, chance)
        warm = warm_cases(early, settings.max_users, numpy_generator(seed, "warm"), log.info.test_from)
        kinds = {}
        if len(cold) >= FEWEST:
            kinds["cold"] = cold_questions(early, cold, settings.shots)
        if early is not log and len(warm) >= FEWEST:
            kinds["warm"] = warm_question(early, warm)
        return Validation(early, kinds)

    def quality(self, kind: str) -> Callable[[ScoringPolicy], float]:
        """Return the measure that chooses settings for one kind of users."""
        return lambda policy: mean_over(self.kinds.get(kind, []), policy)


def mean_over(questions: Sequence[Question], policy: ScoringPolicy) -> float:
    """Return NDCG@10, mean over users and questions; NaN without any."""
    if isinstance(policy, Popularity):
        questions = questions[:1]  # the same list after any number of events
    return (
        float(np.mean([question.mean_ndcg(policy) for question in questions])) if questions else float("nan")
    )


@dataclass(frozen=True)
class Contestants:
    """Fitted policies for each kind of users, by name, and how each was chosen."""

    policies: dict[str, dict[str, ScoringPolicy]]  # kind -> name -> policy
    tuning: dict[str, dict[str, object]]  # kind -> name -> report


def tuned_and_fitted(
    log: PreparedLog,
    validation: Validation,
    wanted: Sequence[str],
    budget: Budget,
    seed: int,
    say: Callable[[str], None],
) -> Contestants:
    """Return the wanted baselines, fitted on every training event."""
    policies: dict[str, dict[str, ScoringPolicy]] = {}
    tuning: dict[str, dict[str, object]] = {}
    for kind in validation.kinds or ("cold",):
        quality = validation.quality(kind)
        bench = Bench(validation.log, quality, seed, judged=kind in validation.kinds)
        policies[kind], tuning[kind] = {}, {}
        fallback = bench.popularity(budget.trials)
        for name in wanted:
            found = fallback if name == "popularity" else _tuned(name, bench, fallback.policy, budget)
            options = found.policy.options
            say(f"{kind} {name}: validation {found.quality:.4f}, {found.trials} trials, {options}")
            policies[kind][name] = refitted(found.policy, log, validation, kind)
            tuning[kind][name] = found.report() | {
                "seconds": round(sum(trial.seconds for trial in found.record), 1),
                "given_up": sum(trial.quality is None for trial in found.record),
                "record": [asdict(trial) for trial in found.record],
            }
    only = next(iter(policies))
    return Contestants({kind: policies.get(kind, policies[only]) for kind in ("cold", "warm")}, tuning)


def _tuned(name: str, bench: Bench, fallback: Popularity, budget: Budget) -> Tuned[Any]:
    sequence = SequenceOptions(epochs=budget.epochs)
    if name == "item_knn":
        return bench.item_knn(fallback, budget.trials)
    if name == "vsknn":
        return bench.vsknn(fallback, budget.trials)
    if name == "ease":
        return bench.ease(fallback, budget.trials, budget.ease_items)
    if name == "als":
        return bench.als(fallback, budget.trials)
    if name == "sasrec":
        sequence = replace(sequence, encoder="attention")
    return bench.sequence(sequence, bench.quality, budget.sequence_trials)


def refitted(policy: Any, log: PreparedLog, validation: Validation, kind: str) -> ScoringPolicy:
    """Return a policy of the same options that has learnt from all training events of the log."""
    if not isinstance(policy, SequencePolicy):
        fitted: ScoringPolicy = type(policy)(policy.options).fit(log, training_histories(log))
        return fitted
    cold = validation.kinds.get("cold", [])

    def judge(fitted: SequencePolicy, epoch: int) -> float:
        if kind == "cold" and cold:
            return mean_over(cold, fitted)
        return -abs(epoch - policy.epoch_)

    return SequencePolicy(policy.options, judge).fit(log, training_histories(log))
