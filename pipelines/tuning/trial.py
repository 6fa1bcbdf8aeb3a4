"""One trial: the pipeline up to the served object's validation, in a run folder of its own.

Steps whose settings and inputs are those of the config as it is are not run again: their artifacts are linked in.
"""

import json
import os
import shutil
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipelines.configuration import put_value
from pipelines.folders import RunFolder
from pipelines.runner import in_order, run_steps
from pipelines.stages import TRAINING, all_steps
from pipelines.steps import Step, plain
from pipelines.tuning.space import Space, Value
from recsys.config import RunConfig, validate_config
from recsys.errors import UserError

MEASURE = "validate"
GoOn = Callable[
    [int, int, float], bool
]  # (stage, epoch, validation quality) -> is the trial worth going on with?


class GivenUp(Exception):
    """A trial was not worth going on with."""


@dataclass(frozen=True)
class Job:
    """A trial as it travels to where it is run: plain values."""

    number: int
    config: str  # JSON; its output and name are the trial's folder
    shared: str  # run folder whose artifacts may be linked in

    def plain(self) -> dict[str, object]:
        """Return what another process is sent."""
        return {"number": self.number, "config": self.config, "shared": self.shared}


def measured_steps() -> list[Step]:
    """Return the steps of a trial, inputs before readers; the last one says how good it is."""
    from pipelines.validate import STEP

    return in_order((*all_steps(), STEP), (MEASURE,))


def changed(config: RunConfig, values: Mapping[str, Value]) -> RunConfig:
    """Return the config with some settings changed; raises UserError if it is refused so."""
    raw = config.model_dump(mode="json")
    for key, value in values.items():
        put_value(raw, key, value)
    return validate_config(raw, "a trial")


def run_trial(job: Job, go_on: GoOn) -> float:
    """Run or go on with a trial, its log in log.txt; return the validation quality of its served object.

    Raises GivenUp if it is not worth going on with, UserError if its config or a step refuses.
    """
    config = RunConfig.model_validate_json(job.config)
    share_artifacts(Path(job.shared), config)

    def judge(step: str, epoch: int, quality: float) -> None:
        if not go_on(TRAINING.index(step), epoch, quality):
            raise GivenUp

    folder = config.output / config.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        try:
            outcomes = run_steps(config, measured_steps(), (MEASURE,), Console(file=log), judge=judge)
        except Exception:
            log.write(traceback.format_exc())
            raise
    return float(outcomes[-1].summary["ndcg"])


def share_artifacts(shared: Path, config: RunConfig, steps: Collection[str] | None = None) -> None:
    """Link in what another run made of the same settings and inputs, of some steps or all; the runner checks it."""
    try:
        kept = RunConfig.model_validate_json((shared / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    own = RunFolder(config.output, config.name)
    for step in same_steps(kept, config):
        source, target = shared / step, own.step(step)
        if (steps is None or step in steps) and source.is_dir() and not target.exists():
            _link_folder(source, target)
    hashes = shared / ".sources.json"  # so that a large log is not hashed by every trial
    if hashes.exists() and not (own.root / hashes.name).exists():
        own.root.mkdir(parents=True, exist_ok=True)
        shutil.copy(hashes, own.root / hashes.name)


def same_steps(one: RunConfig, other: RunConfig) -> list[str]:
    """Return the steps that two configs make alike, in order."""
    alike: list[str] = []
    if one.seed != other.seed:
        return alike
    for step in measured_steps():
        if (
            set(step.inputs) <= set(alike)
            and plain(step.settings(one)) == plain(step.settings(other))
            and step.sources(one) == step.sources(other)
        ):
            alike.append(step.name)
    return alike


def untouched_steps(config: RunConfig, space: Space) -> list[str]:
    """Return the steps that a trial needs and that no setting of the space can change, in order."""
    steps = [step.name for step in measured_steps()]
    for key, axis in space.axes.items():
        for value in axis.ends():
            try:
                alike = same_steps(config, changed(config, {key: value}))
            except UserError:  # refused with this value; the trials will say so
                continue
            steps = [step for step in steps if step in alike]
    return steps


def _link_folder(source: Path, target: Path) -> None:
    """Hard-link a folder's files; copied where the file system cannot. It appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(half, ignore_errors=True)
    try:
        shutil.copytree(source, half, copy_function=os.link)
    except (OSError, shutil.Error):
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(source, half)
    os.rename(half, target)


def job_of(number: int, config: RunConfig, folder: Path, shared: Path) -> Job:
    """Return a trial's job: the config in a run folder of its own."""
    own = config.model_copy(update={"output": folder, "name": f"{number:05d}"})
    return Job(number, json.dumps(own.model_dump(mode="json")), str(shared))
