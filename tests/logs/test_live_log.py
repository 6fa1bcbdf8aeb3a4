"""Traffic as tables: sessions where callers named none, lists by their moment, the log merged up to a cut."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import columns as c
from recsys.config import LogConfig, PrepareConfig
from recsys.errors import UserError
from recsys.evaluation.replay.snapshot import read_export
from recsys.logs.merged_log import merge_logs
from recsys.logs.prepare import prepare
from recsys.logs.schema import EVENTS

NOON = 1_700_000_000_000_000


def event(
    number: int, user: str | None, minute: float, item: str = "a", **fields: object
) -> dict[str, object]:
    return {
        **dict.fromkeys(EVENTS.names),
        c.EVENT_ID: f"e{number}",
        c.USER_ID: user,
        c.TIMESTAMP: datetime.fromtimestamp(NOON / 1e6 + 60 * minute, UTC),
        c.ITEM_ID: item,
        c.EVENT_TYPE: c.CLICK,
        **fields,
    }


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([f.with_nullable(True) for f in EVENTS])), path)
    return path


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [
        row
        for part in sorted((folder / "events").glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]


def test_a_pause_ends_a_session_that_nobody_named(tmp_path: Path) -> None:
    rows = [
        event(0, "u", 0), event(1, "u", 10), event(2, "u", 50), event(3, "u", 55, session_id="own"), event(4, "u", 60),
        event(5, "v", 5), event(6, None, 0, session_id="visit"), event(7, None, 0),
    ]  # fmt: skip
    log = read_export(write(tmp_path / "x.parquet", rows[::-1]), tmp_path / "out", 30.0)
    named = {row[c.EVENT_ID]: row[c.SESSION_ID] for row in rows_of(tmp_path / "out")}
    assert named["e0"] == named["e1"] != named["e2"] == named["e4"]
    assert named["e3"] == "own"
    assert named["e5"].startswith("v@")
    assert named["e6"] == "visit"
    assert "e7" not in named  # nobody's
    assert (log.events, log.first_us, log.last_us) == (7, NOON, NOON + 60 * 60_000_000)


def test_lists_are_counted_at_their_first_moment(tmp_path: Path) -> None:
    shown = {"event_type": c.IMPRESSION, c.PROPENSITY: 0.5}
    rows = [
        event(0, "u", 3, **shown, recommendation_id="r2", position=1),
        event(1, "u", 2, **shown, recommendation_id="r2", position=0),
        event(2, "v", 1, **shown, recommendation_id="r1", position=0),
        event(3, "v", 1, "b", recommendation_id="r1"),
        event(4, "v", 9, **shown),
    ]
    log = read_export(write(tmp_path / "x.parquet", rows), tmp_path / "out", 30.0)
    assert log.list_times.tolist() == [NOON + 60_000_000, NOON + 120_000_000]


def base(folder: Path) -> LogConfig:
    rows = [event(number, f"u{number}", number, session_id=f"s{number}") for number in range(4)]
    pq.write_table(pa.Table.from_pylist([*rows], EVENTS), _made(folder) / "events.parquet")
    items = pa.table({c.ITEM_ID: ["a", "b"], c.TITLE: ["A", "B"], "colour": ["red", "blue"]})
    pq.write_table(items, folder / "items.parquet")
    pq.write_table(pa.table({c.USER_ID: ["u0", "u1"], "country": ["UK", "FR"]}), folder / "users.parquet")
    return LogConfig(format="tables", path=folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_merged_log_holds_nothing_from_the_cut_on_and_nothing_twice(tmp_path: Path) -> None:
    config = base(tmp_path / "base")
    copied = [event(number, f"u{number}", number) for number in range(4)]  # what the endpoint began with
    live = [event(10, "u0", 5, "b"), event(11, "new", 6), event(12, "u0", 7)]
    read = read_export(write(tmp_path / "x.parquet", copied + live), tmp_path / "live", 30.0)
    cut = NOON + 7 * 60_000_000
    merged = merge_logs(config, read, _made(tmp_path / "merged"), cut)
    assert sorted(str(row[c.EVENT_ID]) for row in rows_of(tmp_path / "merged")) == [
        "e0",
        "e1",
        "e10",
        "e11",
        "e2",
        "e3",
    ]
    assert (merged.live_events, merged.base_until_us) == (2, NOON + 3 * 60_000_000)
    info = prepare(PrepareConfig(log=merged.config), 7, tmp_path / "prepared")
    assert (info.events, info.users, info.quarantined) == (6, 5, {})
    alone = merge_logs(config, read, _made(tmp_path / "alone"), cut, with_base=False)
    assert alone.live_events == 6
    assert pq.read_table(tmp_path / "alone" / "items.parquet").num_rows == 2


def test_the_endpoints_word_about_users_and_items_is_newer(tmp_path: Path) -> None:
    config = base(tmp_path / "base")
    pq.write_table(
        pa.table({c.USER_ID: ["u1", "new"], "country": ["DE", None], "age": ["old", "young"]}),
        tmp_path / "users.parquet",
    )
    read = read_export(write(tmp_path / "x.parquet", [event(9, "new", 9)]), tmp_path / "live", 30.0)
    changed = {
        "b": {"title": "Bee", "available": False},
        "c": {"title": "C", "attributes": {"colour": "green"}},
    }
    merge_logs(config, replace(read, items=changed), _made(tmp_path / "merged"), NOON * 2)
    users = {row[c.USER_ID]: row for row in pq.read_table(tmp_path / "merged" / "users.parquet").to_pylist()}
    assert {name: row["country"] for name, row in users.items()} == {"u0": "UK", "u1": "DE", "new": None}
    items = {row[c.ITEM_ID]: row for row in pq.read_table(tmp_path / "merged" / "items.parquet").to_pylist()}
    assert {name: (row[c.TITLE], row["colour"]) for name, row in items.items()} == {
        "a": ("A", "red"), "b": ("Bee", None), "c": ("C", "green"),
    }  # fmt: skip


def test_an_export_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    (tmp_path / "text.parquet").write_text(json.dumps({}))
    for path, says in (
        ("nowhere", "no log at"),
        ("x.parquet", "lacks the columns event_id"),
        ("text.parquet", "is no Parquet log"),
    ):
        with pytest.raises(UserError, match=says):
            read_export(tmp_path / path, tmp_path / f"out-{path}", 30.0)
