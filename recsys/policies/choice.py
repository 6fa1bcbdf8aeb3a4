"""One baseline of a kind, fitted on all that may train: with options as given, or tuned on validation users."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from recsys.errors import UserError
from recsys.policies.options import PLACE, options_of
from recsys.policies.popularity import PLAIN, Popularity
from recsys.policies.sequence import SequencePolicy
from recsys.policies.spaces import AXES, Bench
from recsys.policies.storage import KINDS
from recsys.policies.tuning import Tuned
from recsys.randomness import derive_seed

_FALLBACK = "popularity"


def chosen_policy(bench: Bench, kind: str, given: Mapping[str, Any], trials: int) -> Tuned[Any]:
    """Return a fitted baseline with its quality on the bench's validation users.

    Without trials the options are those given; with them the search starts there and varies the kind's axes. Raises
    UserError, one line, if an option is refused, or is both given and searched.
    """
    start = _seeded(options_of(kind, given), given, kind, bench.seed)
    if not trials:
        return _as_given(bench, kind, start)
    if not bench.judged:
        raise UserError(
            f"baseline.trials is {trials}, but the log has no validation users to try settings on; give the options "
            f"with --set {PLACE}.…, a larger prepare.split.validation_share, or a smaller last number in evaluate.shots"
        )
    searched = {*AXES[kind], *(() if kind == _FALLBACK else (_FALLBACK,))}
    if twice := next((name for name in given if name in searched), None):
        raise UserError(
            f"{PLACE}.{twice} is given, but baseline.trials searches it; leave one of the two out"
        )
    if kind == "popularity":
        return bench.popularity(trials, start)
    if kind == "sequence":
        return bench.sequence(start, bench.quality, trials)
    fallback = bench.popularity(trials).policy
    if kind == "item_knn":
        return bench.item_knn(fallback, trials, start)
    if kind == "vsknn":
        return bench.vsknn(fallback, trials, start)
    if kind == "als":
        return bench.als(fallback, trials, start)
    return bench.ease(fallback, trials, start=start)


def popularity_of(bench: Bench, policy: Any) -> Popularity:
    """Return the popularity behind a baseline, for when the baseline itself fails: its own, or all counted alike."""
    options = policy.options if isinstance(policy, Popularity) else getattr(policy.options, _FALLBACK, PLAIN)
    return Popularity(options).fit(bench.log, bench.training)


def _as_given(bench: Bench, kind: str, options: Any) -> Tuned[Any]:
    if kind == "sequence":

        def judge(fitted: SequencePolicy, epoch: int) -> float:
            return bench.quality(fitted)

        policy: Any = SequencePolicy(options, judge if bench.judged else None)
    else:
        policy = KINDS[kind][0](options)
    policy.fit(bench.log, bench.training)
    return Tuned(policy, bench.quality(policy), ())


def _seeded(options: Any, given: Mapping[str, Any], kind: str, seed: int) -> Any:
    """Return options whose seed, where the kind has one and none is given, follows from the run's."""
    if "seed" in given or all(field.name != "seed" for field in fields(options)):
        return options
    return replace(options, seed=derive_seed(seed, kind))
