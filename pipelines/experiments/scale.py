"""What every stage costs per million events and per million items, measured and carried forward (docs/scale.md).

    python -m pipelines.experiments.scale prepare --events 1e6 1e7 1e8 --out prepare.json
    python -m pipelines.experiments.scale train --events 1e4 1e5 1e6 --out train.json
    python -m pipelines.experiments.scale items --items 1e4 1e5 1e6 --out items.json
    python -m pipelines.experiments.scale served --items 1e6 --out served.json
    python -m pipelines.experiments.scale table prepare.json train.json items.json

Each size is measured in a process of its own: CPU and wall seconds, peak memory, bytes written. The logs are
generated (scale_log.py), in --scratch, and removed after each size. `table` fits cost = a · n^b to them and carries
it to 10 B events and 100 M items.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.experiments.command import run_command
from pipelines.experiments.scale_log import write_scale_log
from pipelines.experiments.scale_stages import STAGES
from pipelines.experiments.scale_table import print_table

EVENTS_PER_USER = 40
ITEMS = 100_000  # while events grow
EVENTS = 30_000  # while items grow


@dataclass(frozen=True)
class Kind:
    """One way to grow a log, and what is measured at every size of it."""

    by: str  # what grows: "events" or "items"
    stages: tuple[str, ...]
    most_topics: int = 200
    events_per_item: int = 0  # where items grow; 0: EVENTS, however many items
    settings: tuple[str, ...] = ()  # over those of scale_stages

    def size(self, asked: float) -> tuple[int, int]:
        """Return the numbers of events and items of a log of the size that is asked for."""
        if self.by == "events":
            return int(asked), min(ITEMS, int(asked) // 10)
        return self.events_per_item * int(asked) or EVENTS, int(asked)


_TRAINED = ("prepare", "pretrain", "metatrain", "distill", "index")
KINDS = {
    "prepare": Kind("events", ("prepare",)),
    "train": Kind("events", _TRAINED),
    "items": Kind("items", ("prepare", "pretrain", "vectors", "coded", "quantized", "random")),
    "served": Kind(
        "items",
        (*_TRAINED, "asked"),
        most_topics=1_000,
        events_per_item=3,
        settings=(
            "pretrain.epochs=2",
            "pretrain.warmup_epochs=1",
            "evaluate.max_users=200",
            "prepare.split.test_share=0.05",
        ),
    ),
}


def main() -> None:
    """Measure, or print what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*KINDS, "table", "one"])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--events", nargs="*", type=float, default=[])
    parser.add_argument("--items", nargs="*", type=float, default=[])
    parser.add_argument("--scratch", type=Path, help="where logs and artifacts lie meanwhile")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.what == "table":
        print_table([row for path in asked.files for row in json.loads(path.read_text())])
        return
    if asked.what == "one":
        stage, folder = asked.files
        print(json.dumps(STAGES[stage.name](folder)))
        return
    kind = KINDS[asked.what]
    sizes = asked.items if kind.by == "items" else asked.events
    if not sizes:
        parser.error(f"{asked.what} needs sizes: --{kind.by} 1e4 1e5")
    rows: list[dict[str, Any]] = []
    for events, items in map(kind.size, sizes):
        with tempfile.TemporaryDirectory(dir=asked.scratch, prefix="scale-") as scratch:
            rows += _measured(kind, Path(scratch), events, items)
        if asked.out is not None:
            asked.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _measured(kind: Kind, folder: Path, events: int, items: int) -> list[dict[str, Any]]:
    users = max(100, events // EVENTS_PER_USER)
    topics = min(kind.most_topics, items // 10)
    write_scale_log(folder / "log", events, users, items, topics, 7)
    (folder / "settings.json").write_text(json.dumps(kind.settings), encoding="utf-8")
    rows = []
    for stage in kind.stages:
        child = [sys.executable, "-m", "pipelines.experiments.scale", "one", stage, str(folder)]
        done = subprocess.run(  # noqa: S603 - our own module
            child, check=True, capture_output=True, text=True
        )
        for found in json.loads(done.stdout.splitlines()[-1]):
            row = {"by": kind.by, "events": events, "items": items, **found}
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


if __name__ == "__main__":
    run_command(main)
