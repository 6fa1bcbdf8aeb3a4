"""The search's memory: an Optuna study in an SQLite file that outlives a killed process.

One process owns it: trials run elsewhere and are asked for, reported and told here. A trial that was running when the
process died is handed out again under its number with its settings. Each trial is drawn by a sampler whose seed is
derived from its number, so an interrupted search with one worker draws what an undisturbed one draws.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipelines.tuning.space import Space, Value
from recsys.artifacts.files import locked
from recsys.errors import UserError
from recsys.randomness import derive_seed

STAGE_SPAN = 1_000  # steps between the first epochs of two stages, so that equal epochs are compared
NAME = "tune"


@dataclass(frozen=True)
class Asked:
    """A trial that is to be run."""

    number: int
    values: dict[str, Value]


@dataclass(frozen=True)
class Told:
    """A trial that has ended."""

    number: int
    values: dict[str, Value]
    state: str  # complete, pruned, fail
    quality: float | None  # of the served object; None unless complete
    reason: str = ""


class Study:
    """Asks, hears and remembers trials of one space from one config."""

    def __init__(self, path: Path, space: Space, start: dict[str, Value], identity: str, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._space, self._seed = space, seed
        rule = space.study
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if rule.prune:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=rule.prune_after_trials, n_warmup_steps=0)
        self._study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=NAME,
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )
        before = self._study.user_attrs.get("identity")
        if before is None:
            self._study.enqueue_trial(start)
            self._study.set_user_attr("identity", identity)
        elif before != identity:
            raise UserError(
                f"{path} holds a search from another config, space or seed ({before}, this one is {identity}); "
                "go on with those, or give another --study"
            )
        self._orphans = sorted(trial.number for trial in self._trials() if trial.state == TrialState.RUNNING)
        self._running: dict[int, optuna.Trial] = {}

    @property
    def asked(self) -> int:
        """How many trials there are, those that ended and those that run."""
        return sum(trial.state != TrialState.WAITING for trial in self._trials()) - len(self._orphans)

    def ask(self) -> Asked:
        """Return the next trial: one that was interrupted, else a new one."""
        if self._orphans:
            number = self._orphans.pop(0)
            trial = optuna.Trial(self._study, self._trials()[number]._trial_id)
        else:
            self._study.sampler = self._sampler(len(self._trials()))
            trial = self._study.ask()
        self._running[trial.number] = trial
        return Asked(trial.number, self._space.draw(trial))

    def go_on(self, number: int, stage: int, epoch: int, quality: float) -> bool:
        """Hear the validation quality after an epoch of a stage; say whether the trial is worth going on with."""
        trial, at = self._running[number], stage * STAGE_SPAN + epoch
        if (
            at not in self._trials()[number].intermediate_values
        ):  # an interrupted trial says some of them again
            trial.report(quality, at)
        if epoch < self._space.study.prune_after_epochs or number == 0:
            return True
        return not trial.should_prune()

    def tell(self, number: int, quality: float) -> None:
        """End a trial with the quality of its served object."""
        self._study.tell(self._running.pop(number), quality)

    def give_up(self, number: int) -> None:
        """End a trial that was not worth going on with."""
        self._study.tell(self._running.pop(number), state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that could not be run."""
        trial = self._running.pop(number)
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def ended(self) -> list[Told]:
        """Return the trials that have ended, by number."""
        return [_told(trial) for trial in self._trials() if trial.state.is_finished()]

    def best(self, count: int = 1) -> list[Told]:
        """Return the best trials, best first; equal ones by number."""
        complete = [trial for trial in self.ended() if trial.quality is not None]
        return sorted(complete, key=lambda trial: (-(trial.quality or 0.0), trial.number))[:count]

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            seed=derive_seed(self._seed, f"tune/{number}") % 2**32,
            n_startup_trials=self._space.study.random_trials,
            multivariate=True,
            constant_liar=True,  # what runs elsewhere counts as poor, so that workers spread out
        )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep every other process out of a search; raises UserError if one is in it."""
    lock = folder / ".lock"
    try:
        with locked(lock, wait=False):
            yield
    except BlockingIOError:
        holder = lock.read_text(encoding="utf-8") or "unknown"
        raise UserError(
            f"another process (id {holder}) searches in {folder}; wait for it or give another --study"
        ) from None


def _told(trial: FrozenTrial) -> Told:
    complete = trial.state == TrialState.COMPLETE
    return Told(
        trial.number,
        dict(trial.params),
        trial.state.name.lower(),
        trial.value if complete else None,
        str(trial.user_attrs.get("reason", "")),
    )
