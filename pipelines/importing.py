"""`recsys import`: a log as its publisher ships it becomes the tables that format "tables" reads."""

from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from rich.console import Console

from pipelines.progress import PhaseReporter, counted_rows, say, shown
from recsys.config import LogConfig, LogFormat
from recsys.errors import UserError
from recsys.logs.export import export_tables


def import_log(source: Path, out: Path, format_: str, mapping: Path | None) -> None:
    """Write the tables and print what was read; raises UserError if the log or the format is refused."""
    try:
        log = LogConfig.model_validate({"format": format_, "path": source, "mapping": mapping})
    except ValidationError:
        raise UserError(f"no format {format_!r}; choose one of {', '.join(get_args(LogFormat))}") from None
    console = Console(stderr=True)
    with shown(console, "import") as progress:
        info = export_tables(log, out, PhaseReporter(progress, "rows"))
    for rule, rows in info.removed_by_rule.items():
        say(console, f"{counted_rows(rows)} removed: {rule}")
    for reason, rows in info.quarantined.items():
        say(console, f"{counted_rows(rows)} put aside: {reason} (see {out / 'quarantine.csv'})")
    say(
        console,
        f"{counted_rows(info.rows_read)} of {info.source} -> {info.events:,} events, {info.items:,} items, "
        f"{info.users:,} users in {out}",
    )
