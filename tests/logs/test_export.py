"""Exported tables say what the log said, and prepare alike."""

import pyarrow.parquet as pq
import pytest

from recsys.config import LogConfig, PrepareConfig, SplitConfig
from recsys.errors import UserError
from recsys.logs.export import export_tables
from recsys.logs.prepare import prepare
from recsys.logs.schema import EVENTS

ROWS = [
    (f"e{n:03d}", f"u{n % 9}" if n % 5 else None, f"s{n // 4}", f"i{n % 7}", "click", 1000 + n // 3, 1.5)
    for n in range(120)
]


def prepared(log, out):
    """Return what prepare writes for a log, but for the source's name."""
    prepare(PrepareConfig(log=log, split=SplitConfig(kind="users"), content_features=4), 7, out)
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "prepared.json")
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("rows_per_bucket", [1000, 30])
def test_a_log_and_its_export_prepare_to_the_same_bytes(write_log, tmp_path, rows_per_bucket):
    log = write_log(ROWS, rows_per_bucket=rows_per_bucket)
    info = export_tables(log, tmp_path / "copy")
    assert (info.events, info.items, info.rows_read) == (120, 7, 120)
    copy = LogConfig(path=tmp_path / "copy")
    one_bucket = log.model_copy(update={"rows_per_bucket": 1000})
    assert prepared(copy, tmp_path / "one") == prepared(one_bucket, tmp_path / "two")


def test_an_export_is_in_canonical_columns_and_time_order(write_log, tmp_path):
    export_tables(write_log(ROWS[::-1]), tmp_path / "copy")
    table = pq.read_table(tmp_path / "copy" / "events.parquet")
    assert table.schema.equals(EVENTS)
    keys = list(
        zip(*(table[name].to_pylist() for name in ("timestamp", "session_id", "event_id")), strict=True)
    )
    assert keys == sorted(keys)
    assert not (tmp_path / "copy" / "quarantine.csv").exists()


def test_a_second_export_replaces_the_first(write_log, tmp_path):
    export_tables(write_log(ROWS, rows_per_bucket=30), tmp_path / "copy")
    export_tables(write_log(ROWS[:10]), tmp_path / "copy")
    assert pq.read_table(tmp_path / "copy" / "events.parquet").num_rows == 10
    assert not list((tmp_path / "copy" / "events").glob("*"))


def test_a_log_is_never_exported_onto_itself(write_log):
    log = write_log(ROWS)
    with pytest.raises(UserError, match="holds the log"):
        export_tables(log, log.path)
