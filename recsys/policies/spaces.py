"""What is searched of each baseline, and the fits that trials of one search share.

Every policy falls back on the tuned popularity where it has nothing to say, so popularity is tuned first.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from recsys.evaluation.cold_start import ColdCases
from recsys.evaluation.ranking import hits, ndcg
from recsys.evaluation.served import scored_lists
from recsys.logs.interactions import interaction_matrix
from recsys.logs.overlap import Overlap, overlap
from recsys.logs.prepared import PreparedLog, identified, training_histories
from recsys.policies.als import Als, AlsOptions
from recsys.policies.ease import Ease, EaseOptions
from recsys.policies.item_knn import ItemKnn, ItemKnnOptions
from recsys.policies.policy import ScoringPolicy
from recsys.policies.popularity import PLAIN, Popularity, PopularityOptions
from recsys.policies.sequence import SequencePolicy
from recsys.policies.sequence_model import SequenceOptions
from recsys.policies.tuning import TRIALS, Axes, Range, Report, Tuned, search
from recsys.policies.vsknn import Vsknn, VsknnOptions, past_units
from recsys.randomness import derive_seed
from recsys.types import FloatArray, LongArray

SEQUENCE_TRIALS = 8  # a trial trains a network

POPULARITY_AXES: Axes = {
    "count": ("histories", "events"),
    "half_life_days": (None, 7.0, 14.0, 30.0, 60.0, 120.0),
    "window_days": (None, 14.0, 30.0, 60.0, 120.0),
    "identified_only": (True, False),
}
ITEM_KNN_AXES: Axes = {
    "exponent": Range(0.3, 0.9),
    "history_exponent": (0.0, 0.25, 0.5),
    "shrinkage": (0.0, 5.0, 10.0, 20.0, 50.0),
    "neighbours": (0, 50, 200),
    "identified_only": (True, False),
}
VSKNN_AXES: Axes = {
    "unit": ("history", "session"),
    "neighbours": (50, 100, 200, 500, 1000),
    "sample": (500, 1000, 2000, 5000),
    "similarity": ("vec", "cosine"),
    "decay": ("same", "div", "linear", "quadratic", "log"),
    "support_idf": (0.0, 0.5, 1.0, 5.0),
    "score_idf": (0.0, 0.1, 0.5, 1.0),
    "identified_only": (True, False),
}
EASE_AXES: Axes = {
    "l2": Range(5.0, 20_000.0, log=True),
    "history_exponent": (0.0, 0.25, 0.5),
    "identified_only": (True, False),
}
ALS_AXES: Axes = {
    "features": (32, 64, 128),
    "unobserved": Range(0.005, 1.0, log=True),
    "l2": Range(3e-4, 0.1, log=True),
    "exponent": (0.5, 1.0),
    "sweeps": (8, 12, 16),
    "identified_only": (True, False),
}
SEQUENCE_AXES: Axes = {
    "hidden": (64, 96, 128),
    "dropout": (0.1, 0.2, 0.4),
    "learning_rate": Range(5e-4, 5e-3, log=True),
    "weight_decay": Range(1e-4, 0.3, log=True),
    "horizon": (1, 5, 20, 50),
    "batch_size": (16, 32, 64),
    "from_factors": (True, False),
}
AXES: dict[str, Axes] = {
    "popularity": POPULARITY_AXES,
    "item_knn": ITEM_KNN_AXES,
    "vsknn": VSKNN_AXES,
    "ease": EASE_AXES,
    "als": ALS_AXES,
    "sequence": SEQUENCE_AXES,
}

Quality = Callable[[ScoringPolicy], float]


class Bench:
    """One training log and one measure of quality: tunes any baseline on them, with shared fits.

    Without validation users (`judged` False) the default options are fitted.
    """

    def __init__(self, log: PreparedLog, quality: Quality, seed: int, *, judged: bool = True) -> None:
        self.log, self.quality, self.seed, self.judged = log, quality, seed, judged
        self.training = training_histories(log)
        self._overlap = cache(self._make_overlap)

    def popularity(self, trials: int = TRIALS, start: PopularityOptions = PLAIN) -> Tuned[Popularity]:
        """Tune popularity."""

        def fitted(options: PopularityOptions, report: Report) -> Popularity:
            return Popularity(options).fit(self.log, self.training)

        return self._search("popularity", start, POPULARITY_AXES, fitted, trials)

    def item_knn(
        self, fallback: Popularity, trials: int = TRIALS, start: ItemKnnOptions | None = None
    ) -> Tuned[ItemKnn]:
        """Tune item-kNN with a tuned popularity behind it."""

        def fitted(options: ItemKnnOptions, report: Report) -> ItemKnn:
            shared = self._overlap(options.identified_only, options.history_exponent)
            return ItemKnn(options).fit_overlap(shared, fallback.popularity_)

        start = replace(start or ItemKnnOptions(), popularity=fallback.options)
        return self._search("item_knn", start, ITEM_KNN_AXES, fitted, trials)

    def vsknn(
        self, fallback: Popularity, trials: int = TRIALS, start: VsknnOptions | None = None
    ) -> Tuned[Vsknn]:
        """Tune session-kNN with a tuned popularity behind it."""
        units = cache(lambda identified_only, unit: past_units(self.log, self._chosen(identified_only), unit))

        def fitted(options: VsknnOptions, report: Report) -> Vsknn:
            return Vsknn(options).fit_units(
                units(options.identified_only, options.unit), fallback.popularity_
            )

        start = replace(start or VsknnOptions(), popularity=fallback.options)
        return self._search("vsknn", start, VSKNN_AXES, fitted, trials)

    def ease(
        self,
        fallback: Popularity,
        trials: int = TRIALS,
        max_items: int = 8_000,
        start: EaseOptions | None = None,
    ) -> Tuned[Ease]:
        """Tune EASE with a tuned popularity behind it."""

        def fitted(options: EaseOptions, report: Report) -> Ease:
            shared = self._overlap(options.identified_only, options.history_exponent)
            return Ease(options).fit_overlap(shared, fallback.popularity_)

        start = replace(start or EaseOptions(max_items=max_items), popularity=fallback.options)
        return self._search("ease", start, EASE_AXES, fitted, trials)

    def als(self, fallback: Popularity, trials: int = TRIALS, start: AlsOptions | None = None) -> Tuned[Als]:
        """Tune implicit ALS with a tuned popularity behind it."""
        matrix = cache(lambda identified_only: interaction_matrix(self.log, self._chosen(identified_only)))

        def fitted(options: AlsOptions, report: Report) -> Als:
            return Als(options).fit_matrix(matrix(options.identified_only), fallback.popularity_)

        start = replace(start or AlsOptions(seed=derive_seed(self.seed, "als")), popularity=fallback.options)
        return self._search("als", start, ALS_AXES, fitted, trials)

    def sequence(
        self, start: SequenceOptions, judge: Quality, trials: int = SEQUENCE_TRIALS
    ) -> Tuned[SequencePolicy]:
        """Tune a sequence model; `judge` stops its epochs early and decides which trials go on."""

        def fitted(options: SequenceOptions, report: Report) -> SequencePolicy:
            def heard(policy: SequencePolicy, epoch: int) -> float:
                found = judge(policy)
                report(found, epoch)
                return found

            return SequencePolicy(options, heard if self.judged else None).fit(self.log, self.training)

        seeded = replace(start, seed=derive_seed(self.seed, f"sequence-{start.encoder}"))
        return self._search(f"sequence-{start.encoder}", seeded, SEQUENCE_AXES, fitted, trials)

    def _search(
        self,
        name: str,
        start: Any,
        axes: Axes,
        fitted: Callable[[Any, Report], Any],
        trials: int,
    ) -> Tuned[Any]:
        seed = derive_seed(self.seed, f"tune-{name}")
        return search(start, axes, fitted, self.quality, trials if self.judged else 1, seed)

    def _chosen(self, identified_only: bool) -> LongArray:
        return identified(self.log, self.training) if identified_only else self.training

    def _make_overlap(self, identified_only: bool, history_exponent: float) -> Overlap:
        return overlap(interaction_matrix(self.log, self._chosen(identified_only)), history_exponent)


def cold_bench(log: PreparedLog, cases: ColdCases, shots: Sequence[int], cutoff: int, seed: int) -> Bench:
    """Return a bench that judges by NDCG on cold validation users, mean over numbers of support events."""

    def quality(policy: ScoringPolicy) -> float:
        # popularity is the same list after any number of events
        asked = shots[:1] if isinstance(policy, Popularity) else shots
        return mean_ndcg(policy, cases, asked, cutoff)

    return Bench(log, quality, seed, judged=len(cases) > 0)


def mean_ndcg(policy: ScoringPolicy, cases: ColdCases, shots: Sequence[int], cutoff: int) -> float:
    """Return NDCG, mean over users and numbers of support events; NaN without cases."""
    if not len(cases):
        return float("nan")
    per_user: list[FloatArray] = []
    for shot in shots:
        ranked = scored_lists(policy.scores, cases, shot, cutoff)
        per_user.append(ndcg(hits(ranked, cases.query), cases.query.sizes))
    return float(np.mean(per_user))
