"""A small seeded search over a baseline's options on cold validation users, with one budget for every baseline.

Quality is NDCG on the validation cases, mean over users and numbers of support events. The options a baseline starts
with are always among those tried; without validation cases they are what is returned.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Generic, Protocol, TypeVar

import numpy as np

from recsys.evaluation.cold_start import ColdCases
from recsys.evaluation.ranking import hits, ndcg
from recsys.evaluation.served import scored_lists
from recsys.learning.factors import interaction_matrix
from recsys.logs.prepared import PreparedLog
from recsys.policies.baselines import ItemKnn, ItemKnnOptions, Overlap, Popularity, PopularityOptions, overlap
from recsys.policies.policy import ScoringPolicy, identified, training_histories
from recsys.randomness import numpy_generator
from recsys.types import FloatArray

TRIALS = 16  # settings tried of each baseline

POPULARITY_SPACE = tuple(
    PopularityOptions(count=count, half_life_days=half_life, identified_only=identified_only)
    for count, half_life, identified_only in product(
        ("histories", "events"), (None, 7.0, 14.0, 30.0, 60.0, 120.0), (True, False)
    )
)
ITEM_KNN_SPACE = tuple(
    ItemKnnOptions(exponent, history_exponent, shrinkage, neighbours, identified_only)
    for exponent, history_exponent, shrinkage, neighbours, identified_only in product(
        (0.4, 0.5, 0.6), (0.0, 0.25), (0.0, 5.0, 20.0), (0, 50, 200), (True, False)
    )
)


class Tunable(ScoringPolicy, Protocol):
    """A policy whose settings are a frozen dataclass."""

    options: PopularityOptions | ItemKnnOptions


Policy = TypeVar("Policy", bound=Tunable)
Options = TypeVar("Options")


@dataclass(frozen=True)
class Tuned(Generic[Policy]):
    """The best of the policies tried, fitted."""

    policy: Policy
    quality: float  # mean NDCG on the validation cases; NaN without any
    trials: int

    def report(self) -> dict[str, object]:
        """Return what a report keeps: the settings, their quality on validation and how many were tried."""
        return {
            "settings": asdict(self.policy.options),
            "validation_ndcg": None if np.isnan(self.quality) else round(self.quality, 4),
            "trials": self.trials,
        }


def tune_popularity(
    log: PreparedLog, cases: ColdCases, shots: Sequence[int], cutoff: int, seed: int, trials: int = TRIALS
) -> Tuned[Popularity]:
    """Return the popularity that ranks best for the validation cases."""
    training = training_histories(log)
    tried = drawn(POPULARITY_SPACE, PopularityOptions(), trials, numpy_generator(seed, "tune-popularity"))
    # one number of shots will do: the list is the same after any
    return best_of((Popularity(options).fit(log, training) for options in tried), cases, shots[:1], cutoff)


def tune_item_knn(
    log: PreparedLog, cases: ColdCases, shots: Sequence[int], cutoff: int, seed: int, trials: int = TRIALS
) -> Tuned[ItemKnn]:
    """Return the item-kNN that ranks best for the validation cases; tuned popularity ranks what it is silent about."""
    training = training_histories(log)
    fallback = tune_popularity(log, cases, shots, cutoff, seed, trials).policy
    overlaps: dict[tuple[bool, float], Overlap] = {}

    def fitted(options: ItemKnnOptions) -> ItemKnn:
        key = (options.identified_only, options.history_exponent)
        if key not in overlaps:
            chosen = identified(log, training) if options.identified_only else training
            overlaps[key] = overlap(interaction_matrix(log, chosen), options.history_exponent)
        policy = ItemKnn(replace(options, popularity=fallback.options))
        return policy.fit_overlap(overlaps[key], fallback.popularity_)

    tried = drawn(ITEM_KNN_SPACE, ItemKnnOptions(), trials, numpy_generator(seed, "tune-item-knn"))
    return best_of((fitted(options) for options in tried), cases, shots, cutoff)


def mean_ndcg(policy: ScoringPolicy, cases: ColdCases, shots: Sequence[int], cutoff: int) -> float:
    """Return NDCG, mean over users and numbers of support events; NaN without cases."""
    if not len(cases):
        return float("nan")
    per_user: list[FloatArray] = []
    for shot in shots:
        ranked = scored_lists(policy.scores, cases, shot, cutoff)
        per_user.append(ndcg(hits(ranked, cases.query), cases.query.sizes))
    return float(np.mean(per_user))


def best_of(policies: Iterable[Policy], cases: ColdCases, shots: Sequence[int], cutoff: int) -> Tuned[Policy]:
    """Return the best of fitted policies, the earliest of equals."""
    best, quality, trials = None, -np.inf, 0
    for policy in policies:
        reached = mean_ndcg(policy, cases, shots, cutoff)
        trials += 1
        if best is None or reached > quality:
            best, quality = policy, reached
        if not len(cases):
            break
    if best is None:
        raise ValueError("no policies to choose from; give at least one trial")
    return Tuned(best, quality, trials)


def drawn(space: Sequence[Options], start: Options, trials: int, generator: np.random.Generator) -> list[Options]:
    """Return `start` and distinct random settings of a space, `trials` in all."""
    others = [options for options in space if options != start]
    order = generator.permutation(len(others))[: max(0, trials - 1)]
    return [start, *(others[place] for place in order)]
