"""The traffic of an endpoint as canonical tables in a folder: one reading for training, replay and drift.

    events/part-*.parquet    users in buckets, each in time order; every row has a session
    users.parquet            what the endpoint was told of users

Rows come from the live store, through a connection somebody else opened, or from an export. The store is the memory of
the loop: what it has forgotten, a deleted user, no later reading holds. Memory is bounded by a batch or a bucket.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.buckets import Buckets
from recsys.logs.hashing import hash_strings
from recsys.logs.live_tables import ATTRIBUTES, ITEM_CHANGES_TABLE, LOGGED_EVENTS_VIEW, USERS_TABLE
from recsys.logs.schema import EVENTS

USERS_FILE: Final = "users.parquet"
_BATCH_ROWS: Final = 65_536
_ROWS_PER_BUCKET: Final = 1_000_000
_PER_MINUTE: Final = 60_000_000  # microseconds
_LOOSE: Final = pa.schema([field_.with_nullable(True) for field_ in EVENTS])


class Connection(Protocol):
    """What is needed of a database connection (PEP 249); its cursor fetches in batches."""

    def execute(self, statement: str, /) -> Any:
        """Run a statement and return a cursor."""
        ...


@dataclass(frozen=True)
class LiveLog:
    """What was read."""

    folder: Path
    events: int
    lists: int
    first_us: int
    last_us: int
    list_times: np.ndarray[tuple[int], np.dtype[np.int64]] = field(repr=False)  # ascending, microseconds
    attributes: Mapping[str, Mapping[str, str]] = field(repr=False, default_factory=dict)  # by user
    items: Mapping[str, Mapping[str, Any]] = field(
        repr=False, default_factory=dict
    )  # changed since the bundle


def read_store(connection: Connection, folder: Path, session_gap_minutes: float) -> LiveLog:
    """Write what a store holds into a fresh folder. Lists for sessions whose events came inline are left out."""
    inline = f"{c.USER_ID} IS NULL AND {c.EVENT_TYPE} = '{c.IMPRESSION}'"
    statement = f"SELECT {', '.join(EVENTS.names)} FROM {LOGGED_EVENTS_VIEW} WHERE NOT ({inline})"  # noqa: S608 - constants
    cursor = connection.execute(statement)

    def batches() -> Iterator[pa.Table]:
        while rows := cursor.fetchmany(_BATCH_ROWS):
            yield _table(list(zip(*rows, strict=True)))

    told = connection.execute(f"SELECT {c.USER_ID}, {ATTRIBUTES} FROM {USERS_TABLE.name}").fetchall()  # noqa: S608
    attributes = {
        user: {name: str(value) for name, value in json.loads(text).items() if value is not None}
        for user, text in told
    }
    changes = connection.execute(
        f"SELECT {c.ITEM_ID}, fields FROM {ITEM_CHANGES_TABLE.name} ORDER BY revision"  # noqa: S608
    ).fetchall()
    items = {item: json.loads(text) for item, text in changes}
    return _written(batches(), folder, session_gap_minutes, attributes, items)


def read_export(path: Path, folder: Path, session_gap_minutes: float) -> LiveLog:
    """Write an export (a Parquet file, or a folder of them with users.parquet beside it) into a fresh folder.

    Raises UserError if there is nothing to read or a column is missing.
    """
    beside = path / USERS_FILE if path.is_dir() else path.with_name(USERS_FILE)
    inside = next((path / name for name in ("events", "events.parquet") if (path / name).exists()), path)
    if not inside.exists():
        raise UserError(f"no log at {path}; give exported Parquet, or --store the endpoint's own")
    try:
        dataset = ds.dataset(inside, format="parquet")
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is no Parquet log ({' '.join(str(error).split())[:120]}); export it again"
        ) from None
    wanted = (c.EVENT_ID, c.USER_ID, c.TIMESTAMP, c.ITEM_ID, c.EVENT_TYPE, c.RECOMMENDATION_ID, c.PROPENSITY)
    if missing := [name for name in wanted if name not in dataset.schema.names]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; export it with GET /v1/export")
    present = [name for name in EVENTS.names if name in dataset.schema.names]

    def batches() -> Iterator[pa.Table]:
        for batch in dataset.to_batches(columns=present, batch_size=_BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            for name in EVENTS.names:
                if name not in present:
                    table = table.append_column(name, pa.nulls(len(table), EVENTS.field(name).type))
            yield table.select(EVENTS.names).cast(_LOOSE)

    attributes: dict[str, dict[str, str]] = {}
    if beside.is_file():
        for row in pq.read_table(beside).to_pylist():
            user = str(row.pop(c.USER_ID))
            attributes[user] = {name: str(value) for name, value in row.items() if value is not None}
    return _written(batches(), folder, session_gap_minutes, attributes, {})


def _table(columns: list[tuple[Any, ...]]) -> pa.Table:
    arrays = [
        pa.array(list(values), pa.int64()).cast(kind.type)
        if kind.name == c.TIMESTAMP
        else pa.array(list(values), kind.type)
        for values, kind in zip(columns, EVENTS, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=_LOOSE)


def _written(
    batches: Iterator[pa.Table],
    folder: Path,
    session_gap_minutes: float,
    attributes: Mapping[str, Mapping[str, str]],
    items: Mapping[str, Mapping[str, Any]],
) -> LiveLog:
    (folder / "events").mkdir(parents=True)
    events, times, seen = 0, [np.empty(0, np.int64)], [2**62, -(2**62)]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch-") as scratch:
        by_user = Buckets(Path(scratch), _ROWS_PER_BUCKET, _ROWS_PER_BUCKET)
        for batch in batches:
            who = pc.coalesce(batch[c.USER_ID], batch[c.SESSION_ID])
            batch = batch.append_column("who", who).filter(pc.is_valid(who))  # nobody's rows teach nothing
            if len(batch):
                by_user.add(batch, hash_strings(batch["who"]))
        for part, (bucket, _) in enumerate(by_user.tables()):
            named = _with_sessions(
                bucket.sort_by([("who", "ascending"), (c.TIMESTAMP, "ascending"), (c.EVENT_ID, "ascending")]),
                session_gap_minutes,
            )
            pq.write_table(named, folder / "events" / f"part-{part:05d}.parquet", compression="zstd")
            events += len(named)
            moments = named[c.TIMESTAMP].cast(pa.int64()).to_numpy()
            seen = [min(seen[0], int(moments.min())), max(seen[1], int(moments.max()))]
            times.append(_of_lists(named))
    if not events:
        pq.write_table(EVENTS.empty_table(), folder / "events" / "part-00000.parquet")
    pq.write_table(_user_table(attributes), folder / USERS_FILE)
    lists = np.sort(np.concatenate(times))
    return LiveLog(
        folder,
        events,
        len(lists),
        seen[0] if events else 0,
        seen[1] if events else 0,
        lists,
        attributes,
        items,
    )


def _with_sessions(events: pa.Table, gap_minutes: float) -> pa.Table:
    """Return events with a name for every session: one that a pause begins is called after its first moment."""
    who = events["who"].to_numpy(zero_copy_only=False)
    time = events[c.TIMESTAMP].cast(pa.int64()).to_numpy()
    begins = np.ones(len(events), bool)
    begins[1:] = (who[1:] != who[:-1]) | (np.diff(time) > gap_minutes * _PER_MINUTE)
    first = np.maximum.accumulate(np.where(begins, np.arange(len(events)), 0))
    made = pc.binary_join_element_wise(events["who"], pa.array(time[first]).cast(pa.string()), "~")
    place = events.column_names.index(c.SESSION_ID)
    named = events.set_column(place, c.SESSION_ID, pc.coalesce(events[c.SESSION_ID], made))
    return named.select(EVENTS.names).cast(EVENTS)


def _of_lists(events: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return when each list was shown, (list,)."""
    shown = events.filter(
        pc.and_(pc.equal(events[c.EVENT_TYPE], c.IMPRESSION), pc.is_valid(events[c.RECOMMENDATION_ID]))
    )
    first = shown.group_by(c.RECOMMENDATION_ID).aggregate([(c.TIMESTAMP, "min")])
    moments: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        first[f"{c.TIMESTAMP}_min"].cast(pa.int64()).to_numpy()
    )
    return moments


def _user_table(attributes: Mapping[str, Mapping[str, str]]) -> pa.Table:
    names = sorted({name for known in attributes.values() for name in known} - {c.USER_ID})
    columns = {c.USER_ID: pa.array(list(attributes), pa.string())}
    columns |= {
        name: pa.array([known.get(name) for known in attributes.values()], pa.string()) for name in names
    }
    return pa.table(columns)
