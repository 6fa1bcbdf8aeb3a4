"""A search's trials on a cluster: Ray Tune places and retries them, the desk hands them out, prunes and remembers.

Trials find the shared steps and leave their artifacts below the search's folder, which every node must see. A trial
whose node died is begun again elsewhere and goes on from its finished steps and epochs.
"""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.tune as tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipelines.tuning.desk import Desk, Result
from pipelines.tuning.trial import Job, run_trial
from recsys.errors import UserError

MOST_FAILURES = 3  # of one trial, by its node or process, before it counts as failed
MARK = "quality"
FINAL = "final"  # result of a trial that has ended by itself: its quality
FAILED = "failed"  # or why its config or a step refused


@dataclass
class _Table:
    """The desk with what is on it; it stays in the command's process, for Tune copies searchers and schedulers."""

    desk: Desk
    numbers: dict[str, int] = field(default_factory=dict)  # Tune's trial -> ours
    error: UserError | None = None


_TABLES: dict[str, _Table] = {}


class _FromDesk(Searcher):
    """Asks the desk for trials and tells it of their ends; what is kept is in the study, not here."""

    def __init__(self, key: str) -> None:
        super().__init__(metric=MARK, mode="max")
        self.key = key

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's job as plain values."""
        table = _TABLES[self.key]
        job = None if table.error else table.desk.next_job()
        if job is None:
            return Searcher.FINISHED
        table.numbers[trial_id] = job.number
        return job.plain()

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the desk."""
        result = result or {}
        if error:
            ended = Result(reason=f"its process or node ended more than {MOST_FAILURES} times")
        elif FAILED in result:
            ended = Result(reason=result[FAILED])
        elif FINAL in result:
            ended = Result(quality=result[FINAL])
        else:
            ended = Result(given_up=True)
        table = _TABLES[self.key]
        try:
            table.desk.ended(table.numbers.pop(trial_id), ended)
        except UserError as refusal:  # raised again when the running trials have ended
            table.error = refusal

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study does."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class _PrunedByDesk(FIFOScheduler):
    """Stops a trial that the desk finds not worth going on with."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Ask the desk."""
        if FINAL in result or FAILED in result:
            return TrialScheduler.CONTINUE
        table = _TABLES[self.key]
        go_on = table.desk.go_on(
            table.numbers[trial.trial_id], result["stage"], result["epoch"], result[MARK]
        )
        return TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP


def run_on_ray(desk: Desk, workers: int, scratch: Path) -> None:
    """Serve a desk on the cluster that is connected, so many trials at a time, each with one CPU."""
    key = uuid.uuid4().hex
    table = _TABLES[key] = _Table(desk)
    tuner = tune.Tuner(
        tune.with_resources(_trial, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=_FromDesk(key),
            scheduler=_PrunedByDesk(key),
            num_samples=-1,
            max_concurrent_trials=workers,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch),
            failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        del _TABLES[key]
    if table.error is not None:
        raise table.error


def _trial(plain: dict[str, Any]) -> None:
    def go_on(stage: int, epoch: int, quality: float) -> bool:
        tune.report({"stage": stage, "epoch": epoch, MARK: quality})
        return True  # Tune ends the process of a trial that is stopped

    try:
        quality = run_trial(Job(**plain), go_on)
    except UserError as error:
        tune.report({FAILED: str(error), MARK: float("-inf")})
        return
    tune.report({FINAL: quality, MARK: quality})
