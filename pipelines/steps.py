"""What a pipeline step is: a frozen value with a name, inputs, the settings that matter, and a function.

A page of the pipeline holds one `run(context)` and one `STEP`. The function reads the folders of its input
steps, writes its artifact into `context.out` and returns a summary; skipping, atomic replacement, locks and
records are the runner's (`pipelines/runner.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from pipelines.progress import Progress, SilentProgress
from pipelines.scalars import NoScalars, Scalars
from recsys.config import RunConfig

Summary = dict[str, float | int | str]  # shown when the step ends, kept in step.json
Settings = Mapping[str, object]  # pydantic models and JSON-able values by name


def _nothing(config: RunConfig) -> Settings:
    return {}


def _no_sources(config: RunConfig) -> tuple[Path, ...]:
    return ()


def _always(config: RunConfig, folder: Path) -> bool:
    return True


def _unheard(text: str) -> None:
    pass


def _unjudged(epoch: int, quality: float) -> None:
    pass


@dataclass(frozen=True)
class StepContext:
    """What a step may use; `out` is a fresh folder that becomes the step's own when the step ends well."""

    config: RunConfig
    out: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)  # input step -> its folder
    progress: Progress = field(default_factory=SilentProgress)
    scalars: Scalars = field(default_factory=NoScalars)
    log: Callable[[str], None] = _unheard
    judged: Callable[[int, float], None] = (
        _unjudged  # hears each epoch's validation quality; may end the step by raising
    )
    unfinished: Path | None = (
        None  # outlives a killed step, so that its rerun goes on from there; may not exist
    )

    @property
    def seed(self) -> int:
        """The run's seed; uses of chance derive theirs from it by name."""
        return self.config.seed


@dataclass(frozen=True)
class Step:
    """One stage of the pipeline."""

    name: str
    run: Callable[[StepContext], Summary]
    inputs: tuple[str, ...] = ()
    settings: Callable[[RunConfig], Settings] = _nothing  # a change of these makes the artifact stale
    sources: Callable[[RunConfig], tuple[Path, ...]] = _no_sources  # files and folders from outside the run
    early: Mapping[str, Callable[[RunConfig, Path], None]] = field(
        default_factory=dict
    )  # an input step -> what refuses its artifact as soon as it is there, before steps between spend hours
    still_holds: Callable[[RunConfig, Path], bool] = _always  # for effects outside the step's folder
    version: int = 1  # raised when the code comes to mean something else


def plain(settings: Settings) -> dict[str, object]:
    """Return settings as JSON-able values."""
    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in settings.items()
    }
