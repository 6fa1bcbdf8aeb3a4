"""Who hands out trials and hears of them: the search itself, then the finals. Any pool of workers serves a desk."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipelines.tuning.space import Value
from pipelines.tuning.study import Study, Told
from pipelines.tuning.trial import Job, changed, job_of
from recsys.config import RunConfig
from recsys.errors import UserError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What became of a job: a quality, or given up, or a reason why it failed."""

    quality: float | None = None
    given_up: bool = False
    reason: str = ""


class Desk(Protocol):
    """Hands out jobs; all its methods are called by one thread."""

    def next_job(self) -> Job | None:
        """Return a job, or None if no more is to be begun."""

    def go_on(self, number: int, stage: int, epoch: int, quality: float) -> bool:
        """Hear an epoch of a job; say whether it is worth going on with."""

    def ended(self, number: int, result: Result) -> None:
        """Hear how a job ended."""


Pool = Callable[
    [Desk, int], None
]  # (desk, workers): returns when the desk has no more and every job has ended


@dataclass
class SearchDesk:
    """The search: trials of a study until so many were asked for or the time is up."""

    study: Study
    config: RunConfig
    folder: Path
    shared: Path
    trials: int
    until: float  # of time.monotonic; nothing is begun after it
    say: Say
    _values: dict[int, dict[str, Value]] = field(default_factory=dict)

    def next_job(self) -> Job | None:
        """Return the next trial; one whose settings are refused together is told so and passed over."""
        while self.study.asked < self.trials and time.monotonic() < self.until:
            asked = self.study.ask()
            try:
                config = changed(self.config, asked.values)
            except UserError as error:
                self.study.fail(asked.number, str(error))
                self.say(f"trial {asked.number}: refused: {error}")
                continue
            self._values[asked.number] = asked.values
            return job_of(asked.number, config, self.folder, self.shared)
        return None

    def go_on(self, number: int, stage: int, epoch: int, quality: float) -> bool:
        """Ask the study's pruner."""
        return self.study.go_on(number, stage, epoch, quality)

    def ended(self, number: int, result: Result) -> None:
        """Tell the study; only the best trial's artifacts are kept."""
        values = self._values.pop(number)
        if result.quality is not None:
            self.study.tell(number, result.quality)
        elif result.given_up:
            self.study.give_up(number)
        else:
            self.study.fail(number, result.reason)
        best = self.study.best()
        for folder in self.folder.glob("[0-9]*"):
            if int(folder.name) not in {*self._values, *(trial.number for trial in best)}:
                shutil.rmtree(folder, ignore_errors=True)
        self.say(f"trial {number}: {_outcome(result)}{_best(best)}  {shown(values)}")
        if number == 0 and result.reason:
            raise UserError(f"the config as it is cannot be run: {result.reason}")


@dataclass
class FinalsDesk:
    """The finals: every finalist with every seed, at full length; nothing is given up."""

    config: RunConfig
    finalists: Sequence[Told]
    seeds: Sequence[int]
    folder: Path
    shared: Path
    say: Say
    qualities: dict[int, list[float]] = field(default_factory=dict)  # finalist's number -> by seed
    _begun: int = 0

    def next_job(self) -> Job | None:
        """Return the next pair of finalist and seed; a new process goes through them again and keeps what is made."""
        if self._begun == len(self.finalists) * len(self.seeds):
            return None
        number, self._begun = self._begun, self._begun + 1
        finalist, seed = self._pair(number)
        config = changed(self.config, {**finalist.values, "seed": seed})
        return job_of(number, config, self.folder / f"{finalist.number:05d}", self.shared)

    def go_on(self, number: int, stage: int, epoch: int, quality: float) -> bool:
        """Go on, whatever it is."""
        return True

    def ended(self, number: int, result: Result) -> None:
        """Keep the quality; a finalist that fails with one seed is out."""
        finalist, seed = self._pair(number)
        found = float("-inf") if result.quality is None else result.quality
        self.qualities.setdefault(finalist.number, []).append(found)
        self.say(f"final of trial {finalist.number}, seed {seed}: {_outcome(result)}")

    def _pair(self, number: int) -> tuple[Told, int]:
        finalist, seed = divmod(number, len(self.seeds))
        return self.finalists[finalist], self.seeds[seed]


def shown(values: dict[str, Value]) -> str:
    """Return settings as `key=value` words, ready for --set."""
    return " ".join(f"{key}={_text(value)}" for key, value in values.items())


def _text(value: Value) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _outcome(result: Result) -> str:
    if result.quality is not None:
        return f"{result.quality:.4f}"
    return "given up" if result.given_up else f"failed: {result.reason}"


def _best(best: Sequence[Told]) -> str:
    return f" (best {best[0].quality:.4f}, trial {best[0].number})" if best else ""
