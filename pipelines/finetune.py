"""Fine-tune: go on from a bundle with what has happened since, without forgetting and without a jump for live users.

From Python, as the command does:

    from pipelines.finetune import finetune

    made = finetune(
        "champion",                     # a version, an alias, a bundle's folder or a run's folder
        [Path("live/export")],          # event tables: Parquet files, folders of them, folders with events/ in them
        registry=Path("registry"), name="metaq", alias="challenger",
        overrides=["finetune.test_share=0"],   # as --set; every other setting is the one that made the bundle
    )
    made.version, made.bundle           # the published version and its folder; made.run / "index/bundle" without one
    made.new_events, made.continuity["overlap@10"], made.seconds["pretrain"]

`finetune.test_share=0` and `evaluate=False` train on everything that is given, for whoever judges by replay of later
traffic. The run lies in `output/run_name`, like any other: a second call with the same bundle, events and settings
keeps every step. Only UserError is raised for what a person can mend.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from pipelines import finetune_student as student
from pipelines import finetune_teacher as teacher
from pipelines import index, publish
from pipelines.parent import Parent, config_of, find_parent
from pipelines.runner import Outcome, run_steps
from pipelines.steps import Step, Summary
from recsys.artifacts.bundle import load_bundle
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.logs.continuation import ContinuedLog
from recsys.logs.continued_split import continued_split
from recsys.logs.prepared import open_prepared

TRAINING: Final = ("prepare", "pretrain", "metatrain", "distill", "index")


@dataclass(frozen=True)
class Finetuned:
    """What came of going on from a bundle."""

    parent: str  # version, or name of its run
    run: Path  # folder of the new run
    bundle: Path  # folder of the new bundle: the published version's, or the run's
    version: str | None  # none = not published
    new_events: int
    new_items: int
    new_users: int
    continuity: dict[str, float]  # overlap@10, largest_vector_move, q_move (recsys/evaluation/continuity.py)
    evaluation: dict[str, Any] = field(repr=False)  # evaluation.json; no policies where nobody was evaluated
    seconds: dict[str, float] = field(repr=False)  # of each step

    @property
    def training_s(self) -> float:
        """Seconds of all steps that make the bundle, evaluation apart."""
        return sum(self.seconds[name] for name in TRAINING)


def finetune(
    bundle: str,
    logs: Sequence[Path],
    *,
    overrides: Sequence[str] = (),
    registry: Path = Path("registry"),
    name: str = "metaq",
    alias: str | None = "challenger",  # that the new version gets; none = it is published without one
    output: Path = Path("runs"),
    run_name: str | None = None,  # none = the parent's with "-next" behind
    training: Path | None = None,  # a run's folder, where the bundle's own training state was not kept
    evaluate: bool = True,
    to_registry: bool = True,
    force: bool = False,
    console: Console | None = None,  # none = silent
) -> Finetuned:
    """Train on from a bundle and return what came of it.

    Raises UserError, one line, if the bundle, its training state or the new events are missing or refused.
    """
    if not logs:
        raise UserError("no new events given; name at least one Parquet file or folder with --log")
    parent = find_parent(bundle, registry, name, training)
    config, continued = _config(parent, logs, overrides, output, run_name)
    shelf = config.publish.model_copy(update={"registry": registry, "name": name, "alias": alias or ""})
    config = config.model_copy(update={"publish": shelf})
    steps = _steps(parent, tuple(logs), continued, evaluate=evaluate)
    wanted = ("publish" if to_registry else "evaluate", "continuity")
    outcomes = run_steps(
        config, steps, wanted, console or Console(quiet=True), force=[s.name for s in steps] if force else ()
    )
    return _summary(parent, config, {outcome.step: outcome for outcome in outcomes})


def _config(
    parent: Parent, logs: Sequence[Path], overrides: Sequence[str], output: Path, run_name: str | None
) -> tuple[RunConfig, ContinuedLog]:
    """Return the settings of the new run, and the log that it reads."""
    made = load_bundle(parent.bundle).info
    raw = config_of(parent, [])
    given = config_of(
        parent,
        [
            f"name={run_name or f'{raw.name}-next'}",
            f"output={output}",
            f"state.session_gap_minutes={made.state.session_gap_minutes}",  # of the log, where it said so
            *overrides,
        ],
    )
    gap_s = made.state.session_gap_minutes * 60
    earlier = parent.step("prepare")
    continued = ContinuedLog(earlier, logs, gap_s, given.prepare.log.batch_rows)
    content = open_prepared(earlier).content.shape[1]
    if given.prepare.content_features != content:
        raise UserError(
            f"prepare.content_features is {given.prepare.content_features}, must be {content} as in {parent.version}, "
            "whose items keep their vectors; leave it out"
        )
    settings = given.finetune
    split = continued_split(given.prepare.split, continued, settings.test_share, settings.validation_share)
    return given.model_copy(update={"prepare": given.prepare.model_copy(update={"split": split})}), continued


def _steps(
    parent: Parent, logs: tuple[Path, ...], continued: ContinuedLog, *, evaluate: bool
) -> tuple[Step, ...]:
    """Return the steps of going on; those that do not differ are the pipeline's own."""
    digests = parent.digests()

    def prepared(config: RunConfig) -> dict[str, object]:
        return {"prepare": config.prepare, "parent": digests, "session_gap": config.state.session_gap_minutes}

    def tuned(config: RunConfig) -> dict[str, object]:
        validation = config.evaluate.validation_settings()
        parts = {name: getattr(config, name) for name in ("state", "pretrain", "memory", "finetune")}
        return {**parts, "validation": validation, "parent": digests, "threads": config.threads}

    def grown(config: RunConfig) -> dict[str, object]:
        return {"factors": config.factors, "parent": digests, "threads": config.threads}

    def taught(config: RunConfig) -> dict[str, object]:
        return {**tuned(config), "distill": config.distill, "max_support": config.metatrain.max_support}

    return (
        Step(
            name="prepare",
            run=partial(teacher.continue_log, parent=parent, continued=continued),
            settings=prepared,
            sources=lambda _: logs,
        ),
        Step("pretrain", partial(teacher.tune_teacher, parent=parent), ("prepare",), tuned),
        Step("metatrain", partial(student.grow_head, parent=parent), ("prepare", "pretrain"), grown),
        Step("distill", partial(student.tune_student, parent=parent), ("prepare", "metatrain"), taught),
        index.STEP,
        Step(
            "continuity",
            partial(student.measure_continuity, parent=parent),
            ("index",),
            lambda _: {"parent": digests},
        ),
        Step(
            "evaluate",
            partial(student.evaluate_if_any, wanted=evaluate),
            ("prepare", "pretrain", "metatrain", "index"),
            lambda config: {
                "evaluate": config.evaluate,
                "temperature": config.pretrain.temperature,
                "wanted": evaluate,
            },
        ),
        replace(publish.STEP, inputs=(*publish.STEP.inputs, "continuity")),
    )


def _summary(parent: Parent, config: RunConfig, outcomes: dict[str, Outcome]) -> Finetuned:
    run = config.output / config.name
    told: Summary = outcomes["prepare"].summary
    published = outcomes.get("publish")
    version = None if published is None else str(published.summary["version"])
    bundle = (
        outcomes["index"].folder / publish.BUNDLE
        if version is None
        else Registry(config.publish.registry).resolve(config.publish.name, version)
    )
    evaluation = json.loads((outcomes["evaluate"].folder / publish.EVALUATION).read_text(encoding="utf-8"))
    moved = {name: float(value) for name, value in outcomes["continuity"].summary.items()}
    return Finetuned(
        parent=parent.version,
        run=run,
        bundle=bundle,
        version=version,
        new_events=int(told["new_events"]),
        new_items=int(told["new_items"]),
        new_users=int(told["new_users"]),
        continuity=moved,
        evaluation=evaluation,
        seconds={name: outcome.seconds for name, outcome in outcomes.items()},
    )
