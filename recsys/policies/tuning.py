"""One tuning budget for every policy: Optuna's TPE sampler over the settings, judged on validation users alone.

The first trial is the default options, so tuning never does worse than them on validation. A space says what is
searched; every policy gets the same number of trials. Without validation users the default options are what is
returned. A policy that learns in epochs reports each of them, and a trial below the median of the earlier trials at
the same epoch is given up (it counts as a trial).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import optuna

from recsys.policies.policy import ScoringPolicy
from recsys.randomness import derive_seed

TRIALS = 24  # settings tried of each policy


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, ends included; drawn evenly in their logarithm if `log`."""

    low: float
    high: float
    log: bool = False


Axes = Mapping[str, tuple[Any, ...] | Range]  # setting -> values to try


class Tunable(ScoringPolicy, Protocol):
    """A policy whose settings are a frozen dataclass."""

    @property
    def options(self) -> Any:
        """What distinguishes it from others of its kind."""
        ...


Policy = TypeVar("Policy", bound=Tunable)
Options = TypeVar("Options")
Report = Callable[[float, int], None]  # (quality, epoch): raises if the trial is not worth going on with


@dataclass(frozen=True)
class Trial:
    """One setting and what became of it."""

    settings: dict[str, object]
    quality: float | None  # None: given up
    seconds: float


@dataclass(frozen=True)
class Tuned(Generic[Policy]):
    """The best of the policies tried, fitted."""

    policy: Policy
    quality: float  # on the validation cases; NaN without any
    record: tuple[Trial, ...]

    @property
    def trials(self) -> int:
        """How many settings were tried."""
        return len(self.record)

    def report(self) -> dict[str, object]:
        """Return what a report keeps: the settings, their quality on validation and how many were tried."""
        return {
            "settings": asdict(self.policy.options),
            "validation_ndcg": None if np.isnan(self.quality) else round(self.quality, 4),
            "trials": self.trials,
        }


def search(
    start: Options,
    axes: Axes,
    fitted: Callable[[Options, Report], Policy],
    quality: Callable[[Policy], float],
    trials: int,
    seed: int,
) -> Tuned[Policy]:
    """Return the best policy of `trials` settings, the first of which is `start`; the same for the same seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=derive_seed(seed, "tpe") % 2**32),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2),
    )
    study.enqueue_trial({name: getattr(start, name) for name in axes})
    known: dict[Any, float] = {}
    best: tuple[float, Policy] | None = None
    record = []
    for _ in range(max(1, trials)):
        trial = study.ask()
        options = replace(start, **{name: _suggest(trial, name, axis) for name, axis in axes.items()})  # type: ignore[type-var]
        began = time.monotonic()
        found: float | None
        try:
            if options not in known:  # the same setting again costs a trial and no time
                policy = fitted(options, _reporter(trial))
                known[options] = quality(policy)
                if best is None or known[options] > best[0]:
                    best = (known[options], policy)
            found = known[options]
            if np.isnan(found):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, found)
        except optuna.TrialPruned:
            found = None
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        record.append(Trial(dict(trial.params), found, round(time.monotonic() - began, 2)))
    assert best is not None  # noqa: S101  the pruner never gives up the first trial
    return Tuned(best[1], best[0], tuple(record))


def _suggest(trial: optuna.Trial, name: str, axis: tuple[Any, ...] | Range) -> object:
    if isinstance(axis, Range):
        return trial.suggest_float(name, axis.low, axis.high, log=axis.log)
    return trial.suggest_categorical(name, axis)


def _reporter(trial: optuna.Trial) -> Report:
    def report(quality: float, epoch: int) -> None:
        if np.isnan(quality):
            return
        trial.report(quality, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report
