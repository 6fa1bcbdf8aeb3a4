"""Small logs with something wrong about them, and the smallest run over one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY = 86_400
TOML = """
name = "bad"
output = "{home}/runs"
[prepare]
content_features = 4
{prepare}
[prepare.log]
path = "{home}/log"
max_bad_share = {bad_share}
[prepare.split]
kind = "{split}"
test_share = 0.4
validation_share = 0.4
{tables}
[state]
max_events = 10
[model]
item_features = 4
hidden = 6
[factors]
features = 4
[memory]
features = 4
[pretrain]
epochs = 3
warmup_epochs = 1
batch_size = 8
negatives = 8
bootstrap_candidates = 3
[metatrain]
epochs = 1
batch_size = 8
max_support = 4
min_task_events = 3
negatives = 8
old_states = 8
[distill]
epochs = 1
batch_size = 8
hidden = 6
teacher_top = 4
random_candidates = 4
[evaluate]
shots = [0, 1, 2]
cutoff = 10
max_users = 20
bootstrap = 20
[publish]
registry = "{home}/registry"
max_over_estimation = 100.0  # fifteen updates make no sound Q-function, and soundness is not the question here
max_unsupported_argmax = 1.0
max_calibration_error = 100.0
"""


@dataclass(frozen=True)
class Row:
    """One event of a bad log."""

    user: str | None
    session: str
    item: str
    kind: str
    second: int
    value: float | None = 2.0


def log(
    users: int = 12, events: int = 6, items: int = 8, kinds: Iterable[str] = ("click", "purchase")
) -> list[Row]:
    """Return sound events, ten minutes apart, in sessions of three; every user comes a day later than the last."""
    chance, kinds = np.random.default_rng(0), list(kinds)
    return [
        Row(
            f"u{user}",
            f"u{user}s{event // 3}",
            f"i{chance.integers(items)}",
            kinds[chance.integers(len(kinds))],
            DAY * user + 600 * event,
        )
        for user in range(users)
        for event in range(events)
    ]


def changed(rows: list[Row], every: int = 1, **fields: object) -> list[Row]:
    """Return the rows with fields of every n-th replaced; a function is given the place and the row."""
    return [
        row
        if place % every
        else Row(
            **vars(row) | {name: new(place, row) if callable(new) else new for name, new in fields.items()}
        )
        for place, row in enumerate(rows)
    ]


def write_events(folder: Path, rows: list[Row]) -> None:
    """Write the event table of canonical tables."""
    folder.mkdir(exist_ok=True)
    columns: dict[str, pa.Array] = {
        "event_id": pa.array([f"e{place}" for place in range(len(rows))], pa.string()),
        "timestamp": pa.array([row.second for row in rows], pa.int64()).cast(pa.timestamp("s", tz="UTC")),
        "value": pa.array([row.value for row in rows], pa.float64()),
    }
    fields = {"user_id": "user", "session_id": "session", "item_id": "item", "event_type": "kind"}
    for column, name in fields.items():
        columns[column] = pa.array([getattr(row, name) for row in rows], pa.string())
    pq.write_table(pa.table(columns), folder / "events.parquet")
