"""Small canonical logs for the tests of prepare."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import LogConfig

Event = tuple[str | None, str | None, str | None, str | None, str | None, int, float | None]
NAMES = ("event_id", "user_id", "session_id", "item_id", "event_type")


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., LogConfig]:
    """Write (event, user, session, item, type, second, value) rows, and an item table if ids are given."""

    def write(events: Sequence[Event], items: Sequence[str] | None = None, **settings: object) -> LogConfig:
        root = tmp_path / "log"
        root.mkdir(exist_ok=True)
        columns = {
            name: pa.array([event[place] for event in events], pa.string())
            for place, name in enumerate(NAMES)
        }
        columns["timestamp"] = pa.array([event[5] for event in events]).cast(pa.timestamp("s", tz="UTC"))
        columns["value"] = pa.array([event[6] for event in events], pa.float64())
        pq.write_table(pa.table(columns), root / "events.parquet")
        (root / "items.parquet").unlink(missing_ok=True)
        if items is not None:
            pq.write_table(pa.table({"item_id": pa.array(items, pa.string())}), root / "items.parquet")
        return LogConfig(path=root, **settings)

    return write
