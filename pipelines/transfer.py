"""Transfer: a whole run on a new log whose teacher and head start from a bundle of another log.

    made = transfer("champion", "own", ["prepare.log.path=clicks.csv"], registry=Path("registry"), name="metaq")

The run is that of the config, with the shape of the source's network; `transfer.*` says what weighs how much and what
stays frozen for how long. A config that names `transfer.source` itself does the same under `recsys run`.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.parent import Parent, config_of, find_parent
from pipelines.runner import Outcome, run_steps
from pipelines.stages import NAMES, all_steps
from recsys.config import RunConfig
from recsys.learning.checkpoint import load_shape


def transfer(
    source: str,
    config: str,
    overrides: Sequence[str] = (),
    *,
    log: Path | None = None,  # none = the config's
    registry: Path = Path("registry"),
    name: str = "metaq",
    training: Path | None = None,
    console: Console | None = None,  # none = silent
) -> tuple[RunConfig, list[Outcome]]:
    """Run every step on a new log, warm-started; return the settings and what became of the steps.

    Raises UserError, one line, if the source or its training state is missing, or lies in another content space.
    """
    parent = find_parent(source, registry, name, training)
    resolved = resolve_config(config, [*_shape(parent), *_log(log), *overrides])
    outcomes = run_steps(resolved, all_steps(), NAMES, console or Console(quiet=True))
    return resolved, outcomes


def _shape(parent: Parent) -> list[str]:
    """Return the settings that must be the source's, so that its network fits."""
    theirs = config_of(parent, [])
    shape = load_shape(parent.step("metatrain") / "teacher.json")
    kept = [f"model.{key}={value}" for key, value in theirs.model.model_dump(mode="json").items()]
    return [
        f"transfer.source={parent.training.resolve()}",
        f"prepare.content_space={theirs.prepare.content_space}",
        f"prepare.content_features={theirs.prepare.content_features}",
        f"memory.features={shape.memory_features}",
        f"pretrain.dueling={str(shape.dueling).lower()}",
        f"pretrain.quantiles={shape.quantiles}",
        f"state.max_events={theirs.state.max_events}",
        *kept,
    ]


def _log(log: Path | None) -> list[str]:
    return [] if log is None else [f"prepare.log.path={log}"]
