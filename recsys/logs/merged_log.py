"""A base log and the traffic since, as one log that `prepare` reads: what a challenger is trained on, up to a cut.

Nothing at or after the cut is in it, so that what is replayed from the cut on is news to the challenger. Traffic that
is not younger than the base log is left out: an endpoint's store begins with a copy of that log's newest events.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.config import LogConfig
from recsys.live_catalogue import DELETED
from recsys.logs.export import export_tables
from recsys.logs.live_log import USERS_FILE, LiveLog
from recsys.logs.schema import EVENTS, ITEMS, TIMESTAMP_TYPE

_ITEMS_FILE = "items.parquet"
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class MergedLog:
    """A log in the canonical tables."""

    config: LogConfig
    base_until_us: int  # the newest event of the base log
    live_events: int  # that were added


def merge_logs(
    base: LogConfig, live: LiveLog, out: Path, before_us: int, *, with_base: bool = True
) -> MergedLog:
    """Write the merged log into a fresh folder; without its events the base log still tells items and users."""
    scratch = out / ".base"
    if base.format == "tables":
        tables = base.path
    else:
        tables = scratch
        export_tables(base, scratch)
    single = tables / "events.parquet"
    parts = [single] if single.is_file() else sorted((tables / "events").glob("*.parquet"))
    (out / "events").mkdir(parents=True, exist_ok=True)
    if with_base:
        for number, part in enumerate(parts):
            _put(part, out / "events" / f"base-{number:05d}.parquet")
    newest = _newest(parts) if with_base else -(2**62)
    added = _add_live(live, out / "events", newest, before_us)
    if (tables / _ITEMS_FILE).is_file():
        known = pq.read_table(tables / _ITEMS_FILE)
        pq.write_table(_with_changes(known, live.items), out / _ITEMS_FILE)
    users = pq.read_table(tables / USERS_FILE) if (tables / USERS_FILE).is_file() else None
    known_users = _with_users(users, live.attributes)
    if len(known_users):
        pq.write_table(known_users, out / USERS_FILE)
    shutil.rmtree(scratch, ignore_errors=True)
    return MergedLog(
        base.model_copy(update={"format": "tables", "path": out, "mapping": None}), newest, added
    )


def live_alone(live: LiveLog, out: Path, before_us: int) -> int:
    """Write the traffic before a cut into a fresh folder, for whoever goes on from a bundle; return its events."""
    (out / "events").mkdir(parents=True, exist_ok=True)
    if live.items:
        pq.write_table(_with_changes(ITEMS.empty_table(), live.items), out / _ITEMS_FILE)
    if live.attributes:
        names = sorted({name for known in live.attributes.values() for name in known})
        none = pa.schema([pa.field(name, pa.string()) for name in (c.USER_ID, *names)]).empty_table()
        pq.write_table(_with_users(none, live.attributes), out / USERS_FILE)
    return _add_live(live, out / "events", -(2**62), before_us)


def _put(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where its file system cannot."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _newest(parts: list[Path]) -> int:
    newest = -(2**62)
    for batch in ds.dataset(parts, format="parquet").to_batches(
        columns=[c.TIMESTAMP], batch_size=_BATCH_ROWS
    ):
        column = batch.column(0)
        if column.type.tz is None:
            column = pc.assume_timezone(column, "UTC")
        last = pc.max(column.cast(TIMESTAMP_TYPE, safe=False).cast(pa.int64())).as_py()
        newest = max(newest, newest if last is None else last)
    return newest


def _add_live(live: LiveLog, out: Path, after_us: int, before_us: int) -> int:
    added = 0
    for number, part in enumerate(sorted((live.folder / "events").glob("*.parquet"))):
        table = pq.read_table(part)
        time = table[c.TIMESTAMP].cast(pa.int64())
        inside = pc.and_(pc.greater(time, after_us), pc.less(time, before_us))
        taught = pc.is_valid(table[c.SESSION_ID])  # nobody's lists teach nothing
        chosen = table.filter(pc.and_(inside, taught))
        if len(chosen):
            named = chosen.select(EVENTS.names).cast(EVENTS)
            pq.write_table(named, out / f"live-{number:05d}.parquet", compression="zstd")
            added += len(chosen)
    return added


def _with_changes(items: pa.Table, changes: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return the items as they are now; what a change does not say of an item is unknown."""
    if not changes:
        return items
    kept = items.filter(
        pc.invert(pc.is_in(items[c.ITEM_ID].cast(pa.string()), value_set=pa.array(list(changes))))
    )
    own = {name: ITEMS.field(name) for name in ITEMS.names}
    columns: dict[str, pa.Array] = {}
    for name in items.column_names:
        kind = own[name].type if name in own else items.schema.field(name).type
        values = [_of_change(name, item, fields) for item, fields in changes.items()]
        try:
            columns[name] = pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # an attribute of the same name and another kind
            columns[name] = pa.nulls(len(values), kind)
    changed = pa.table(columns).cast(kept.schema)
    return pa.concat_tables([kept, changed])


def _of_change(name: str, item: str, fields: Mapping[str, Any]) -> Any:
    if name == c.ITEM_ID:
        return item
    if name == c.AVAILABLE:
        return not fields.get(DELETED) and fields.get(c.AVAILABLE) is not False
    found = fields.get(name)
    return (fields.get("attributes") or {}).get(name) if found is None else found


def _with_users(users: pa.Table | None, told: Mapping[str, Mapping[str, str]]) -> pa.Table:
    """Return the users of the base log and those the endpoint was told of, whose word is newer.

    Attributes that the base log does not have are left out, so that a bundle keeps its vocabulary.
    """
    if users is None:
        return pa.table({c.USER_ID: pa.array(list(told), pa.string())})
    names = [name for name in users.column_names if name != c.USER_ID]
    texts = [name for name in names if pa.types.is_string(users.schema.field(name).type)]
    ids = users[c.USER_ID].cast(pa.string())
    if not told:
        return users
    before = {
        row[c.USER_ID]: row
        for row in users.filter(pc.is_in(ids, value_set=pa.array(list(told), pa.string()))).to_pylist()
    }
    rows = [
        {
            **before.get(user, dict.fromkeys(names)),
            **{name: known[name] for name in texts if name in known},
            c.USER_ID: user,
        }
        for user, known in told.items()
    ]
    others = users.filter(pc.invert(pc.is_in(ids, value_set=pa.array(list(told), pa.string()))))
    return pa.concat_tables([others, pa.Table.from_pylist(rows, schema=users.schema)])
