"""Prepare: from a raw log to the tables and memory-mapped arrays that every later step reads."""

from pathlib import Path

from pipelines.progress import PhaseReporter, counted_rows
from pipelines.steps import Step, StepContext, Summary
from recsys.config import RunConfig
from recsys.datasets.mapping import side_tables
from recsys.errors import UserError
from recsys.logs.prepare import prepare
from recsys.logs.spread import QUARANTINE, Spread, spread_here


def run(context: StepContext, spread: Spread = spread_here) -> Summary:
    """Read the configured log into `out` (layout: recsys/logs/prepared.py).

    Raises UserError if the log is refused; where single rows were the reason, they stay in the run's folder.
    """
    reporter = PhaseReporter(context.progress, "rows")
    refused = context.config.output / context.config.name / QUARANTINE
    refused.unlink(missing_ok=True)
    try:
        info = prepare(context.config.prepare, context.seed, context.out, reporter, spread=spread)
    except UserError as error:
        written = context.out / QUARANTINE  # vanishes with the unfinished artifact
        if str(written) not in str(error):
            raise
        written.replace(refused)
        raise UserError(str(error).replace(str(written), str(refused))) from None
    for reason, rows in info.quarantined.items():
        context.log(f"{counted_rows(rows)} put aside: {reason} (see {QUARANTINE})")
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
