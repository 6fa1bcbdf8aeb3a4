"""Makes a challenger from what happened before a cut, and publishes it: fine-tuned, trained anew, or a baseline.

What is published says until when it was trained (`evaluation.json`), what it came from (`lineage.json`) and, of a
Q-ranker, how sound its Q-function is (`health.json`), so that whoever judges the version later finds it there.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from pipelines.folders import RunFolder
from pipelines.publish import BUNDLE, EVALUATION, HEALTH, PARENT
from pipelines.runner import run_steps
from recsys.artifacts.registry import Registry
from recsys.artifacts.training_state import NEEDED, keep_training, training_folder
from recsys.config import RunConfig, SplitConfig
from recsys.logs.live_log import LiveLog
from recsys.logs.merged_log import live_alone, merge_logs

_SUFFIX: Final = "-improve"


@dataclass(frozen=True)
class Lesson:
    """What a trainer is given: nothing in it happened at or after the cut."""

    config: RunConfig
    live: LiveLog
    cut_us: int
    champion: str  # version
    console: Console


@dataclass(frozen=True)
class Learnt:
    """What a trainer made."""

    bundle: Path
    run: Path  # folder of the run that made it
    live_events: int
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the journal


Trainer = Callable[[Lesson], Learnt]


def loop_folder(config: RunConfig) -> RunFolder:
    """Return the run folder that the loop works in, beside the run's own."""
    return RunFolder(config.output, f"{config.name}{_SUFFIX}")


def make_challenger(
    lesson: Lesson, trainers: Mapping[str, Trainer] | None = None
) -> tuple[str, dict[str, Any]]:
    """Train on what came before the cut and publish it; return the version and what the journal is to know."""
    config, how = lesson.config, lesson.config.improve.how
    folder, shelf = loop_folder(config), Registry(config.publish.registry)
    learnt = (trainers or TRAINERS)[how](lesson)
    package = folder.root / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(learnt.bundle, package)
    for path in (learnt.run / "pretrain" / HEALTH, learnt.run / "prepare" / PARENT):
        if how != "baseline" and path.is_file():
            shutil.copy(path, package / path.name)
    told = _read(package / EVALUATION)
    _write(package / EVALUATION, told | {"trained_until": moment(lesson.cut_us)})
    came_from = {"parent": lesson.champion, "how": how, "live_events": learnt.live_events}
    _write(package / "lineage.json", _read(package / "lineage.json") | {"loop": came_from})
    if not (package / "run.json").is_file():
        made_with = _read(learnt.run / "config.json")
        for own in ("output", "threads", "publish", "baseline", "improve"):
            made_with.pop(own, None)
        _write(package / "run.json", made_with)
    version = shelf.publish(package, config.publish.name)
    shutil.rmtree(package)
    steps = {name: learnt.run / name for name in NEEDED}
    if how != "baseline" and config.publish.keep_training and all(path.is_dir() for path in steps.values()):
        keep_training(shelf.root, config.publish.name, version, steps)
    return version, {"how": how, "live_events": learnt.live_events, **learnt.facts}


def retrain(lesson: Lesson) -> Learnt:
    """Run every step that learns, from raw tables to the bundle; a killed one goes on where it was."""
    from pipelines.stages import all_steps

    with merged_run(lesson) as (config, events):
        made = run_steps(config, all_steps(), ("index",), lesson.console)[-1]
    return Learnt(made.folder / BUNDLE, made.folder.parent, events)


def fit_baseline(lesson: Lesson) -> Learnt:
    """Fit the baseline that [baseline] names."""
    from pipelines.baseline import PACKAGE, step_of
    from pipelines.stages import all_steps

    step = step_of(lesson.config.baseline.kind)
    with merged_run(lesson) as (config, events):
        made = run_steps(config, [*all_steps(), step], (step.name,), lesson.console)[-1]
    return Learnt(made.folder / PACKAGE, made.folder.parent, events)


def tune_champion(lesson: Lesson) -> Learnt:
    """Go on from the champion with the traffic alone."""
    from pipelines.finetune import finetune

    config = lesson.config
    with _fresh(loop_folder(config).root / "log") as log:
        events = live_alone(lesson.live, log, lesson.cut_us)
        made = finetune(
            lesson.champion,
            [log],
            overrides=["finetune.test_share=0", *config.improve.finetune],
            registry=config.publish.registry,
            name=config.publish.name,
            output=config.output,
            run_name=loop_folder(config).root.name,
            evaluate=False,
            to_registry=False,
            console=lesson.console,
        )
    moved = {name: round(value, 4) for name, value in made.continuity.items()}
    return Learnt(made.bundle, made.run, events, {"continuity": moved})


TRAINERS: Final[Mapping[str, Trainer]] = {
    "finetune": tune_champion,
    "retrain": retrain,
    "baseline": fit_baseline,
}


@contextmanager
def merged_run(lesson: Lesson) -> Iterator[tuple[RunConfig, int]]:
    """Give the config of the loop's own run, whose log is base and traffic up to the cut, and the traffic's events.

    The cut in time is the merged log's end, so the split inside it is by users and keeps none for a test: the test is
    the replay.
    """
    config = lesson.config
    split = SplitConfig(kind="users", test_share=0.0, validation_share=config.prepare.split.validation_share)
    with _fresh(loop_folder(config).root / "log") as log:
        merged = merge_logs(
            config.prepare.log, lesson.live, log, lesson.cut_us, with_base=config.improve.with_base
        )
        prepare = config.prepare.model_copy(update={"split": split, "log": merged.config})
        name = loop_folder(config).root.name
        yield config.model_copy(update={"name": name, "prepare": prepare}), merged.live_events


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """Give an empty folder that is gone afterwards: the store alone remembers users' events as they came."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget_training(config: RunConfig, kept: Collection[str], made: Iterable[str]) -> None:
    """Remove the training state of versions that the loop made and nobody will go on from."""
    publish = config.publish
    for version in set(made) - set(kept):
        shutil.rmtree(training_folder(publish.registry, publish.name, version), ignore_errors=True)


def moment(microseconds: int) -> str:
    """Return a time as journals and bundles show it."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
