"""The policies of the comparison: baselines tuned on validation users, then fitted on all that may train.

Settings are chosen where nothing of the test period is known and, under a split by time, one cut earlier
(`recsys/evaluation/warm.py`). Quality is NDCG@10: the mean over numbers of support events of cold users, averaged with
that of warm users where there are enough of either. The final sequence models are stopped by cold validation users,
whom neither fit trains on.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from pipelines.experiments.questions import Question, cold_questions, warm_question
from recsys.config import EvaluateConfig
from recsys.evaluation.cold_start import cold_cases
from recsys.evaluation.warm import before_validation, warm_cases
from recsys.logs.prepared import PreparedLog, Role, training_histories
from recsys.policies.policy import ScoringPolicy
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


@dataclass(frozen=True)
class Validation:
    """The validation users of a log, with the log as it was known before them."""

    log: PreparedLog
    cold: list[Question]
    warm: list[Question]

    @staticmethod
    def of(log: PreparedLog, settings: EvaluateConfig, seed: int) -> "Validation":
        """Return the users that choose settings, under either kind of split."""
        early = before_validation(log)
        chance = numpy_generator(seed, "validation")
        cold = cold_cases(early, Role.COLD_VALIDATION, max(settings.shots), settings.max_users, chance)
        warm = warm_cases(early, settings.max_users, numpy_generator(seed, "warm"), log.info.test_from)
        return Validation(
            early,
            cold_questions(early, cold, settings.shots) if len(cold) >= FEWEST else [],
            warm_question(early, warm) if early is not log and len(warm) >= FEWEST else [],
        )

    def quality(self, policy: ScoringPolicy) -> float:
        """Return NDCG@10 of cold users, mean over numbers of support events, averaged with that of warm users."""
        kinds = [kind for kind in (self.cold, self.warm) if kind]
        return float(np.mean([mean_over(kind, policy) for kind in kinds])) if kinds else float("nan")


def mean_over(questions: Sequence[Question], policy: ScoringPolicy) -> float:
    """Return NDCG@10, mean over users and questions; NaN without any."""
    return (
        float(np.mean([question.mean_ndcg(policy) for question in questions])) if questions else float("nan")
    )


def tuned_and_fitted(
    log: PreparedLog,
    validation: Validation,
    wanted: Sequence[str],
    budget: Budget,
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, ScoringPolicy], dict[str, object]]:
    """Return the wanted baselines, fitted on every training event, and how each was chosen."""
    judged = bool(validation.cold or validation.warm)
    bench = Bench(validation.log, validation.quality, seed, judged=judged)
    popularity = bench.popularity(budget.trials)
    fallback = popularity.policy
    sequence = SequenceOptions(epochs=budget.epochs)
    tune: dict[str, Callable[[], Tuned]] = {  # type: ignore[type-arg]
        "popularity": lambda: popularity,
        "item_knn": lambda: bench.item_knn(fallback, budget.trials),
        "vsknn": lambda: bench.vsknn(fallback, budget.trials),
        "ease": lambda: bench.ease(fallback, budget.trials, budget.ease_items),
        "als": lambda: bench.als(fallback, budget.trials),
        "gru4rec": lambda: bench.sequence(sequence, validation.quality, budget.sequence_trials),
        "sasrec": lambda: bench.sequence(
            replace(sequence, encoder="attention"), validation.quality, budget.sequence_trials
        ),
    }
    policies: dict[str, ScoringPolicy] = {}
    reports: dict[str, object] = {}
    for name in wanted:
        found = tune[name]()
        say(f"{name}: validation {found.quality:.4f} after {found.trials} trials, {found.policy.options}")
        policies[name] = refitted(found.policy, log, validation)
        reports[name] = found.report() | {
            "seconds": round(sum(trial.seconds for trial in found.record), 1),
            "given_up": sum(trial.quality is None for trial in found.record),
            "record": [asdict(trial) for trial in found.record],
        }
    return policies, reports


def refitted(policy: ScoringPolicy, log: PreparedLog, validation: Validation) -> ScoringPolicy:
    """Return a policy of the same options that has learnt from all training events of the log."""
    if isinstance(policy, SequencePolicy):
        judge = (lambda fitted, epoch: mean_over(validation.cold, fitted)) if validation.cold else None
        fresh: ScoringPolicy = SequencePolicy(policy.options, judge)
    else:
        fresh = type(policy)(policy.options)  # type: ignore[call-arg, attr-defined]
    return fresh.fit(log, training_histories(log))
