"""Runs steps in order: skips what is up to date, replaces what is stale, records what was made."""

import os
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from pipelines.folders import RunFolder
from pipelines.manifest import InputRecord, Manifest, describe_files, digest_of, read_manifest
from pipelines.progress import say, shown
from pipelines.scalars import TensorBoardScalars
from pipelines.sources import SourceHashes
from pipelines.steps import Step, StepContext, Summary, plain
from recsys.artifacts.files import replace_text
from recsys.config import RunConfig, fingerprint

Judge = Callable[
    [str, int, float], None
]  # hears (step, epoch, validation quality); may end the run by raising


def _no_judge(step: str, epoch: int, quality: float) -> None:
    pass


@dataclass(frozen=True)
class Outcome:
    """What became of one step."""

    step: str
    folder: Path
    kept: bool  # an earlier artifact was up to date
    seconds: float  # of the run that made the artifact
    summary: Summary


def in_order(steps: Sequence[Step], wanted: Collection[str]) -> list[Step]:
    """Return the wanted steps and all they need, inputs first; `steps` lists inputs before readers."""
    needed = set(wanted)
    for step in reversed(steps):
        if step.name in needed:
            needed.update(step.inputs)
    return [step for step in steps if step.name in needed]


def run_steps(
    config: RunConfig,
    steps: Sequence[Step],
    wanted: Collection[str],
    console: Console,
    force: Collection[str] = (),
    judge: Judge = _no_judge,
) -> list[Outcome]:
    """Bring the wanted steps up to date, in order.

    Raises UserError if another process works in the same run folder, or if a step refuses its input.
    """
    folder = RunFolder(config.output, config.name)
    with folder.held():
        replace_text(folder.root / "config.json", config.model_dump_json(indent=2) + "\n")
        made: dict[str, Manifest] = {}
        outcomes = []
        ordered = in_order(steps, wanted)
        for place, step in enumerate(ordered):
            outcome = _bring_up_to_date(
                config, step, folder, made, console, partial(judge, step.name), force=step.name in force
            )
            outcomes.append(outcome)
            for later in ordered[place + 1 :]:
                if step.name in later.early:
                    later.early[step.name](config, outcome.folder)
        return outcomes


def _bring_up_to_date(
    config: RunConfig,
    step: Step,
    folder: RunFolder,
    made: dict[str, Manifest],
    console: Console,
    judged: Callable[[int, float], None],
    *,
    force: bool,
) -> Outcome:
    """Run one step unless its artifact is up to date; `made` holds the records of the steps before."""
    sources = (
        SourceHashes(folder.root / ".sources.json").describe(paths) if (paths := step.sources(config)) else {}
    )
    inputs = {name: InputRecord(made[name].fingerprint, made[name].digest) for name in step.inputs}
    made_with = {name: _version(name) for name in ("metaq", "torch", "numpy")}
    print_of_step = fingerprint(
        step.name,
        step.version,
        config.seed,
        plain(step.settings(config)),
        {name: record.fingerprint for name, record in inputs.items()},
        {name: record.sha256 for name, record in sources.items()},
        # a release of the numerics may change results; a patch of ours may not, unless it raises step.version
        {name: made_with[name].split("+")[0] for name in ("torch", "numpy")},
    )
    final = folder.step(step.name)
    manifest = read_manifest(final)
    if (
        not force
        and manifest is not None
        and manifest.fingerprint == print_of_step
        and manifest.inputs == inputs
        and manifest.is_whole(final)
        and step.still_holds(config, final)
    ):
        made[step.name] = manifest
        say(console, f"{step.name:<9} kept: same inputs and settings (fingerprint {print_of_step})")
        return Outcome(step.name, final, True, manifest.seconds, manifest.summary)

    started = time.monotonic()
    settle_chance(config, step.name)
    if force:
        folder.forget_unfinished(step.name)
    unfinished = folder.unfinished(step.name, print_of_step)
    with folder.staged(step.name) as out:
        inputs_at = {name: folder.step(name) for name in step.inputs}
        summary = _run(config, step, folder, out, inputs_at, unfinished, console, judged)
        files = describe_files(out)
        manifest = Manifest(
            step=step.name,
            fingerprint=print_of_step,
            settings=plain(step.settings(config)),
            seed=config.seed,
            inputs=inputs,
            sources=sources,
            made_with=made_with,
            files=files,
            digest=digest_of(files),
            summary=summary,
            seconds=round(time.monotonic() - started, 3),
        )
        manifest.write(out)
    folder.forget_unfinished(step.name)
    made[step.name] = manifest
    shown_summary = ", ".join(f"{name} {_show(value)}" for name, value in summary.items())
    say(
        console,
        f"{step.name:<9} done in {manifest.seconds:.1f} s" + (f": {shown_summary}" if summary else ""),
    )
    return Outcome(step.name, final, False, manifest.seconds, summary)


def _run(
    config: RunConfig,
    step: Step,
    folder: RunFolder,
    out: Path,
    inputs: Mapping[str, Path],
    unfinished: Path,
    console: Console,
    judged: Callable[[int, float], None],
) -> Summary:
    from recsys.learning.device import fast_products, kept_memory

    scalars = TensorBoardScalars(folder.root / "tensorboard" / step.name)
    try:
        with fast_products(), kept_memory(), shown(console, step.name) as progress:
            context = StepContext(
                config=config,
                out=out,
                inputs=inputs,
                progress=progress,
                scalars=scalars,
                log=lambda text: say(console, f"{step.name:<9} {text}"),
                judged=judged,
                unfinished=unfinished,
            )
            return step.run(context)
    finally:
        scalars.close()


def settle_chance(config: RunConfig, step: str) -> None:
    """Make a step repeatable whatever ran before it: threads, deterministic kernels, seeds."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic kernels ask for on CUDA
    import numpy as np
    import torch

    from recsys.randomness import derive_seed

    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    # what is allocated is written before it is read; NaN in it would only find a bug of torch's
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Steps draw from named generators; the global ones are seeded for what libraries draw on their own.
    seed = derive_seed(config.seed, f"global/{step}")
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "not installed"


def _show(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
