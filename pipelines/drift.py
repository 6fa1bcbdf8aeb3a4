"""`recsys drift`: whether the traffic of now is that of before, as a table, a line and an exit code."""

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from pipelines.challengers import loop_folder
from pipelines.progress import say
from pipelines.traffic import traffic
from recsys.config import RewardConfig, RunConfig
from recsys.evaluation.drift import Drift, measure_drift
from recsys.evaluation.replay.log import EventSource, from_parquet

EXIT: Final = {"steady": 0, "drifted": 1, "too few": 3}


def drift_of(source: EventSource, reward: RewardConfig, config: RunConfig) -> Drift:
    """Return the drift of a log by the settings of a run."""
    settings = config.improve
    return measure_drift(source, reward, settings.window_hours * 3600.0, settings.drift, config.seed)


def show_drift(config: RunConfig, log: Path | None, store: str | None) -> int:
    """Measure, print, return the exit code: 0 steady, 1 drifted, 3 too few lists to say."""
    folder = loop_folder(config).root / "drift-traffic"
    with traffic(log, store, folder, config.state.session_gap_minutes) as live:
        drift = drift_of(from_parquet(live.folder), config.prepare.reward, config)
    table = Table("measure", "before", "now", "change", "95 %", "bound", "verdict")
    for row in drift.rows:
        ends = ["" if value is None else f"{value:.4g}" for value in (row.before, row.now)]
        table.add_row(
            row.name,
            *ends,
            f"{row.change:+.3g}",
            f"{row.low:+.3g} to {row.high:+.3g}",
            f"{row.bound:g}",
            row.verdict,
        )
    console = Console()
    console.print(table)
    counts = (
        "" if drift.verdict == "too few" else f"{drift.lists[0]:,} lists before, {drift.lists[1]:,} now. "
    )
    say(console, counts + drift.sentence)
    return EXIT[drift.verdict]
