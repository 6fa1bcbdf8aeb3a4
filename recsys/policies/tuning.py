"""A small seeded search over a baseline's options on cold validation users, one budget for every baseline.

Quality is NDCG on the validation cases, mean over users and numbers of support events. Half the budget goes
to the default options and random ones, the rest to changing one setting of the best at a time, while that
helps. Without validation cases the default options are what is returned.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from recsys.evaluation.cold_start import ColdCases
from recsys.evaluation.ranking import hits, ndcg
from recsys.evaluation.served import scored_lists
from recsys.learning.factors import interaction_matrix
from recsys.logs.prepared import PreparedLog, identified, training_histories
from recsys.policies.baselines import ItemKnn, ItemKnnOptions, Overlap, Popularity, PopularityOptions, overlap
from recsys.policies.policy import ScoringPolicy
from recsys.randomness import numpy_generator
from recsys.types import FloatArray

TRIALS = 32  # settings tried of each baseline, at most

Axes = Mapping[str, tuple[Any, ...]]  # setting -> values to try
POPULARITY_AXES: Axes = {
    "count": ("histories", "events"),
    "half_life_days": (None, 7.0, 14.0, 30.0, 60.0, 120.0),
    "identified_only": (True, False),
}
ITEM_KNN_AXES: Axes = {
    "exponent": (0.4, 0.5, 0.6, 0.7, 0.8),
    "history_exponent": (0.0, 0.25, 0.5),
    "shrinkage": (0.0, 5.0, 20.0, 50.0),
    "neighbours": (0, 50, 200),
    "identified_only": (True, False),
}


class Tunable(ScoringPolicy, Protocol):
    """A policy whose settings are a frozen dataclass."""

    @property
    def options(self) -> PopularityOptions | ItemKnnOptions:
        """What distinguishes it from others of its kind."""
        ...


Policy = TypeVar("Policy", bound=Tunable)
Options = TypeVar("Options", PopularityOptions, ItemKnnOptions)


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

    def fitted(options: PopularityOptions) -> Popularity:
        return Popularity(options).fit(log, training)

    def quality(policy: Popularity) -> float:
        return mean_ndcg(policy, cases, shots[:1], cutoff)  # the list is the same after any number of events

    budget = trials if len(cases) else 1
    generator = numpy_generator(seed, "tune-popularity")
    return search(PopularityOptions(), POPULARITY_AXES, fitted, quality, budget, generator)


def tune_item_knn(
    log: PreparedLog, cases: ColdCases, shots: Sequence[int], cutoff: int, seed: int, trials: int = TRIALS
) -> Tuned[ItemKnn]:
    """Return the item-kNN that ranks best for the validation cases, tuned popularity where it is silent."""
    training = training_histories(log)
    fallback = tune_popularity(log, cases, shots, cutoff, seed, trials).policy
    overlaps: dict[tuple[bool, float], Overlap] = {}

    def fitted(options: ItemKnnOptions) -> ItemKnn:
        key = (options.identified_only, options.history_exponent)
        if key not in overlaps:
            chosen = identified(log, training) if options.identified_only else training
            overlaps[key] = overlap(interaction_matrix(log, chosen), options.history_exponent)
        return ItemKnn(options).fit_overlap(overlaps[key], fallback.popularity_)

    def quality(policy: ItemKnn) -> float:
        return mean_ndcg(policy, cases, shots, cutoff)

    budget = trials if len(cases) else 1
    start = ItemKnnOptions(popularity=fallback.options)
    return search(start, ITEM_KNN_AXES, fitted, quality, budget, numpy_generator(seed, "tune-item-knn"))


def mean_ndcg(policy: ScoringPolicy, cases: ColdCases, shots: Sequence[int], cutoff: int) -> float:
    """Return NDCG, mean over users and numbers of support events; NaN without cases."""
    if not len(cases):
        return float("nan")
    per_user: list[FloatArray] = []
    for shot in shots:
        ranked = scored_lists(policy.scores, cases, shot, cutoff)
        per_user.append(ndcg(hits(ranked, cases.query), cases.query.sizes))
    return float(np.mean(per_user))


def search(
    start: Options,
    axes: Axes,
    fitted: Callable[[Options], Policy],
    quality: Callable[[Policy], float],
    trials: int,
    generator: np.random.Generator,
) -> Tuned[Policy]:
    """Draw half the trials at random, then improve the best one setting at a time, axes in a drawn order."""
    best = fitted(start)
    best_options, reached, tried = start, quality(best), {start}

    def better(options: Options) -> bool:
        nonlocal best_options, best, reached
        if options in tried or len(tried) >= trials:
            return False
        tried.add(options)
        policy = fitted(options)
        found = quality(policy)
        if found <= reached:
            return False
        best_options, best, reached = options, policy, found
        return True

    grid = [replace(start, **dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    for place in generator.permutation(len(grid))[: max(0, trials // 2 - 1)]:
        better(grid[place])
    names = list(axes)
    improved = True
    while improved:
        improved = False
        for name in (names[place] for place in generator.permutation(len(names))):
            for value in axes[name]:
                improved |= better(replace(best_options, **{name: value}))
    return Tuned(best, reached, len(tried))
