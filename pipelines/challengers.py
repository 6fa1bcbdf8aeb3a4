"""Makes a challenger from the merged log up to a cut, and publishes it: the whole pipeline anew, or a baseline.

What is published says until when it was trained (`evaluation.json`), what it came from (`lineage.json`) and, of a
Q-ranker, how sound its Q-function is (`health.json`), so that whoever judges the version later finds it there.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from pipelines.folders import RunFolder
from pipelines.publish import BUNDLE, EVALUATION, HEALTH
from pipelines.runner import run_steps
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig, SplitConfig
from recsys.logs.live_log import LiveLog
from recsys.logs.merged_log import merge_logs

Trainer = Callable[[RunConfig, Console], Path]  # a config whose log is the merged one -> a bundle's folder
_SUFFIX: Final = "-improve"


def loop_folder(config: RunConfig) -> RunFolder:
    """Return the run folder that the loop works in, beside the run's own."""
    return RunFolder(config.output, f"{config.name}{_SUFFIX}")


def training_config(config: RunConfig, log: RunConfig | None = None) -> RunConfig:
    """Return the config of the loop's own run: everybody up to the cut trains, but some who choose epochs.

    The cut in time is the merged log's end, so the split inside it is by users and keeps none for a test: the test is
    the replay.
    """
    split = SplitConfig(kind="users", test_share=0.0, validation_share=config.prepare.split.validation_share)
    prepare = config.prepare.model_copy(update={"split": split, **({} if log is None else {"log": log})})
    return config.model_copy(update={"name": f"{config.name}{_SUFFIX}", "prepare": prepare})


def make_challenger(
    config: RunConfig,
    live: LiveLog,
    cut_us: int,
    parent: str,
    console: Console,
    trainers: Mapping[str, Trainer] | None = None,
) -> tuple[str, int]:
    """Train on what came before the cut and publish it; return the version and how many live events taught it."""
    folder = loop_folder(config)
    log = folder.root / "log"
    shutil.rmtree(log, ignore_errors=True)
    try:
        merged = merge_logs(config.prepare.log, live, log, cut_us, with_base=config.improve.with_base)
        train = (trainers or TRAINERS)[config.improve.how]
        bundle = train(training_config(config, merged.config), console)
    finally:
        shutil.rmtree(log, ignore_errors=True)
    package = folder.root / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(bundle, package)
    health = folder.step("pretrain") / HEALTH
    if config.improve.how != "baseline" and health.is_file():
        shutil.copy(health, package / HEALTH)
    told = json.loads((package / EVALUATION).read_text()) if (package / EVALUATION).is_file() else {}
    _write(package / EVALUATION, told | {"trained_until": moment(cut_us)})
    came_from = {"parent": parent, "how": config.improve.how, "live_events": merged.live_events}
    lineage = package / "lineage.json"
    before = json.loads(lineage.read_text()) if lineage.is_file() else {}
    _write(lineage, before | {"loop": came_from})
    settings = config.model_dump_json(
        indent=2, exclude={"output", "threads", "publish", "baseline", "improve"}
    )
    (package / "run.json").write_text(settings + "\n", encoding="utf-8")
    version = Registry(config.publish.registry).publish(package, config.publish.name)
    shutil.rmtree(package)
    return version, merged.live_events


def retrain(config: RunConfig, console: Console) -> Path:
    """Run every step that learns, from raw tables to the bundle; a killed one goes on where it was."""
    from pipelines.stages import all_steps

    return run_steps(config, all_steps(), ("index",), console)[-1].folder / BUNDLE


def fit_baseline(config: RunConfig, console: Console) -> Path:
    """Fit the baseline that [baseline] names."""
    from pipelines.baseline import PACKAGE, step_of
    from pipelines.stages import all_steps

    step = step_of(config.baseline.kind)
    return run_steps(config, [*all_steps(), step], (step.name,), console)[-1].folder / PACKAGE


TRAINERS: Final[Mapping[str, Trainer]] = {"retrain": retrain, "baseline": fit_baseline}


def moment(microseconds: int) -> str:
    """Return a time as journals and bundles show it."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
