"""Prepare: from a raw log to the tables and memory-mapped arrays that every later step reads."""

from pathlib import Path

from pipelines.progress import PhaseReporter
from pipelines.steps import Step, StepContext, Summary
from recsys.config import RunConfig
from recsys.datasets.mapping import side_tables
from recsys.logs.prepare import prepare


def run(context: StepContext) -> Summary:
    """Read the configured log into `out` (layout: recsys/logs/prepared.py)."""
    reporter = PhaseReporter(context.progress, "rows")
    info = prepare(context.config.prepare, context.seed, context.out, reporter)
    for reason, rows in info.quarantined.items():
        context.log(f"{rows:,} rows put aside: {reason} (see quarantine.csv)")
    return {
        "events": info.events,
        "items": info.items,
        "users": info.users,
        "sessions": info.sessions,
        "quarantined": sum(info.quarantined.values()),
    }


def sources(config: RunConfig) -> tuple[Path, ...]:
    """Return what the step reads from outside the run: a change of content makes the artifact stale."""
    log = config.prepare.log
    if log.mapping is None:
        return (log.path,)
    return (log.path, log.mapping, *side_tables(log.mapping))


STEP = Step(
    name="prepare",
    run=run,
    settings=lambda config: {"prepare": config.prepare},
    sources=sources,
)
