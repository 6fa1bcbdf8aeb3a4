"""The event table as replay reads it: users in buckets of bounded size, from Parquet or from the endpoint's store.

A request is all impressions of one recommendation; lists with a gap, a doubled position or a missing propensity are
counted and left out. Anonymous sessions are users of one session; the endpoint's lists without a user are counted and
left out, because no feedback belongs to nobody. Between users nothing is shared, so that each user's events in time
order are all that time order asks for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.errors import UserError
from recsys.evaluation.replay.lines import LoggedLine, line_of
from recsys.live_catalogue import ItemChange
from recsys.logs.schema import EVENTS
from recsys.types import BoolArray, LongArray, RealArray

CHANGES_FILE: Final = "item_changes.parquet"
RECEIVED_AT: Final = "received_at"  # nanoseconds; of the endpoint's events, when they arrived
REQUEST: Final = "request"  # of the endpoint's lists, at their first item: what was asked (lines.py)
_OF_THE_ENDPOINT: Final = (pa.field(RECEIVED_AT, pa.int64()), pa.field(REQUEST, pa.string()))
SCHEMA: Final = pa.schema([field for field in EVENTS if field.name != c.EVENT_ID] + list(_OF_THE_ENDPOINT))
NEEDED: Final = tuple(SCHEMA.names)
_OPTIONAL: Final = (
    c.VALUE,
    c.POSITION,
    c.POLICY_VERSION,
    c.SESSION_ID,
    c.USER_ID,
    c.PROPENSITY,
    RECEIVED_AT,
    REQUEST,
)
OUT_OF_TIME: Final = "lists out of the time asked for"  # why some are left out
NO_PROPENSITY: Final = "lists without a propensity above 0 and up to 1"
_READ_ROWS: Final = 131_072
_SESSION_GAP_US: Final = 30 * 60 * 1_000_000  # where the log names no sessions


@dataclass(frozen=True)
class EventSource:
    """Where events come from; a bucket of users at a time."""

    name: str
    batches: Callable[[], Iterable[pa.Table]]  # reads everything once, in bounded pieces
    buckets: int
    changes: Sequence[ItemChange] = ()  # of the catalogue while the log was made, by revision
    since_us: int | None = None  # earlier lists are history alone: nobody is asked what they would have shown
    until_us: int | None = None  # so are lists from then on

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield the events of each bucket of users, sorted by user and time."""
        for bucket in range(self.buckets):
            parts = [_of_bucket(batch, bucket, self.buckets) for batch in self.batches()]
            frame = _frame(pa.concat_tables(parts).to_pandas()) if parts else pd.DataFrame()
            if len(frame):
                yield frame

    def event_types(self) -> list[str]:
        """Return the types of the events, by name."""
        found: set[str] = set()
        for batch in self.batches():
            found.update(pc.unique(batch[c.EVENT_TYPE]).cast(pa.string()).to_pylist())
        return sorted(found)

    def between(self, since_us: int | None, until_us: int | None = None) -> "EventSource":
        """Return the same events, of which only lists in since ≤ time < until (microseconds) are replayed."""
        return replace(self, since_us=since_us, until_us=until_us)


def from_table(
    table: pa.Table, name: str = "a table in memory", changes: Sequence[ItemChange] = ()
) -> EventSource:
    """Return events that are in memory already, in the shape of schema.EVENTS."""
    _require(table.column_names, name)
    return EventSource(name, lambda: [table], 1, tuple(changes))


def from_parquet(path: Path | str, rows_per_bucket: int = 2_000_000) -> EventSource:
    """Return events in a Parquet file or a folder of them; a folder with `events/` inside means that.

    The log is read once per bucket, so that memory is bounded by rows_per_bucket, whatever its order. Raises UserError
    if there is nothing to read or a column is missing.
    """
    path = Path(path)
    changes = read_changes(path)
    if (path / "events").is_dir():
        path = path / "events"
    elif (path / "events.parquet").is_file():
        path = path / "events.parquet"
    if not path.exists():
        raise UserError(f"no log at {path}; give a Parquet file, a folder of them, or a store")
    try:
        dataset = ds.dataset(path, format="parquet")
        rows = dataset.count_rows()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is no Parquet log ({' '.join(str(error).split())[:120]}); export it again"
        ) from None
    _require(dataset.schema.names, str(path))
    present = [name for name in NEEDED if name in dataset.schema.names]

    def batches() -> Iterator[pa.Table]:
        for batch in dataset.to_batches(columns=present, batch_size=_READ_ROWS):
            yield pa.Table.from_batches([batch])

    return EventSource(str(path), batches, max(1, -(-rows // rows_per_bucket)), changes)


def read_changes(log: Path) -> tuple[ItemChange, ...]:
    """Return the changes of the catalogue that lie beside a log, as `/v1/export?table=item_changes` gives them."""
    path = (log if log.is_dir() else log.parent) / CHANGES_FILE
    if not path.is_file():
        return ()
    rows = pq.read_table(path).to_pylist()
    made = [ItemChange(row["revision"], row[c.ITEM_ID], orjson.loads(row["fields"])) for row in rows]
    return tuple(sorted(made, key=lambda change: change.revision))


def _require(columns: Sequence[str], where: str) -> None:
    missing = [name for name in NEEDED if name not in columns and name not in _OPTIONAL]
    if missing:
        raise UserError(
            f"{where} lacks the columns {', '.join(missing)}; events need {', '.join(NEEDED)} "
            "(docs/replay_evaluation.md)"
        )


def _of_bucket(batch: pa.Table, bucket: int, buckets: int) -> pa.Table:
    """Return the events of the users of a bucket, with a column for everything that is needed."""
    for name in NEEDED:
        if name not in batch.column_names:
            batch = batch.append_column(name, pa.nulls(len(batch), SCHEMA.field(name).type))
    who = pc.coalesce(
        pc.cast(batch[c.USER_ID], pa.string()),
        pc.binary_join_element_wise("session", pc.cast(batch[c.SESSION_ID], pa.string()), " "),
        pc.binary_join_element_wise("recommendation", pc.cast(batch[c.RECOMMENDATION_ID], pa.string()), " "),
    )
    batch = batch.select(NEEDED).append_column("who", who)
    if buckets == 1:
        return batch.filter(pc.is_valid(who))
    names = who.to_pandas()
    hashes = pd.util.hash_array(names.fillna("").to_numpy(object)) % np.uint64(buckets)
    return batch.filter(pa.array((hashes == bucket) & names.notna().to_numpy()))


def _frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return events sorted by user and time; times in whole microseconds."""
    times = pd.to_datetime(frame[c.TIMESTAMP], utc=True).dt.as_unit("us").astype("int64")
    frame = frame.assign(time=times)
    return frame.sort_values(["who", "time"], kind="stable", ignore_index=True)


@dataclass(frozen=True)
class RequestTable:
    """Requests with their lists; arrays of shape (request, position), −1 and 1 beyond a list's length."""

    who: list[str]
    recommendation: list[str]
    time: LongArray  # microseconds, (request,)
    version: list[str]
    item: LongArray  # code of the vocabulary
    propensity: RealArray
    row: LongArray  # of the impression in the frame
    length: LongArray  # (request,)
    line: list[LoggedLine | None]  # what the endpoint wrote of the request
    session: LongArray  # (request,) the same number for the requests of one session
    dropped: Counter[str]

    def __len__(self) -> int:
        return len(self.who)


def requests_of(
    frame: pd.DataFrame,
    item_code: np.ndarray[Any, Any],
    *,
    need_propensity: bool = True,
    source: EventSource | None = None,
) -> RequestTable:
    """Return the requests of a bucket, those in the window of its source; `item_code` is of each event, (event,)."""
    dropped: Counter[str] = Counter()
    shown = np.flatnonzero((frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy())
    named = frame[c.RECOMMENDATION_ID].notna().to_numpy()[shown]
    dropped["impressions without a recommendation_id"] += int((~named).sum())
    shown = shown[named]
    code = pd.factorize(frame[c.RECOMMENDATION_ID].to_numpy(object)[shown])[0]
    position = frame[c.POSITION].to_numpy(np.float64, na_value=np.nan)[shown]
    lone = np.bincount(code, minlength=1)[code] == 1
    position = np.where(np.isnan(position) & lone, 0.0, position)
    position = np.where(lone, 0.0, position)  # one item of a list that was logged alone is a list of one
    propensity = frame[c.PROPENSITY].to_numpy(np.float64, na_value=np.nan)[shown]
    order = np.lexsort((position, code))
    shown, code, position, propensity = shown[order], code[order], position[order], propensity[order]
    starts = np.flatnonzero(np.diff(code, prepend=-1) != 0)
    length = np.diff(np.append(starts, len(code)))
    place = np.arange(len(code)) - np.repeat(starts, length)
    good = _in_window(frame["time"].to_numpy()[shown[starts]], source)
    dropped[OUT_OF_TIME] += int((~good).sum())
    unknown = (
        ~((propensity > 0) & (propensity <= 1.0 + 1e-6)) if need_propensity else np.zeros(len(code), bool)
    )
    for wrong, why in (
        (position != place, "lists with a gap or a doubled position"),
        (unknown, NO_PROPENSITY),
    ):
        bad = np.logical_or.reduceat(wrong, starts) if len(starts) else np.zeros(0, bool)
        dropped[why] += int((bad & good).sum())
        good &= ~bad
    text = frame[REQUEST].to_numpy(object)
    lines = [
        _line(text[shown[start]], frame["who"].iloc[shown[start]]) if wanted else None
        for start, wanted in zip(starts.tolist(), good.tolist(), strict=True)
    ]
    popular = np.array([line is not None and line.served_by == "popular" for line in lines], np.bool_)
    inline = np.array([line is not None and line.inline for line in lines], np.bool_)
    nobodys = np.array([line is not None for line in lines], np.bool_)
    nobodys &= frame[c.USER_ID].isna().to_numpy()[shown[starts]]
    for wrong, why in (
        (popular, "lists of the popular rung, which are not drawn"),
        (inline, "lists of sessions whose events came along and are not kept"),
        (nobodys, "lists without a user, to whom no feedback belongs"),
    ):
        dropped[why] += int((wrong & good).sum())
        good = good & ~wrong
    width = int(length[good].max(initial=1))
    first = shown[starts[good]]
    kept = np.repeat(good, length)
    row_of = np.repeat(np.cumsum(good) - 1, length)[kept]
    shape = int(good.sum()), width
    item, row = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    chance: RealArray = np.ones(shape)
    item[row_of, place[kept]] = item_code[shown][kept]
    row[row_of, place[kept]] = shown[kept]
    chance[row_of, place[kept]] = np.nan_to_num(propensity[kept], nan=1.0)
    version = frame[c.POLICY_VERSION].fillna("").astype(str).to_numpy(object)[first]
    return RequestTable(
        frame["who"].to_numpy(object)[first].tolist(),
        frame[c.RECOMMENDATION_ID].to_numpy(object)[first].tolist(),
        frame["time"].to_numpy()[first],
        version.tolist(),
        item,
        chance,
        row,
        length[good],
        [line for line, kept in zip(lines, good.tolist(), strict=True) if kept],
        _sessions(frame, first),
        +dropped,
    )


def _in_window(time: LongArray, source: EventSource | None) -> BoolArray:
    inside = np.ones(len(time), bool)
    if source is not None and source.since_us is not None:
        inside &= time >= source.since_us
    if source is not None and source.until_us is not None:
        inside &= time < source.until_us
    return inside


def _line(text: Any, who: str) -> LoggedLine | None:
    return line_of(text, who) if isinstance(text, str) else None


def _sessions(frame: pd.DataFrame, first: LongArray) -> LongArray:
    """Number sessions, (request,): as they are named, else cut by pauses between a user's requests."""
    who = pd.factorize(frame["who"].to_numpy(object)[first])[0]
    named = frame[c.SESSION_ID].to_numpy(object)[first]
    time = frame["time"].to_numpy()[first]
    order = np.lexsort((time, who))
    fresh = np.append(True, np.diff(who[order]) != 0) | np.append(
        True, np.diff(time[order]) > _SESSION_GAP_US
    )
    cut = np.empty(len(first), np.int64)
    cut[order] = np.cumsum(fresh)
    names = [
        str(number) if name is None or name != name else f"named {name}"
        for name, number in zip(named.tolist(), cut.tolist(), strict=True)
    ]
    pairs = pd.Series(list(zip(who.tolist(), names, strict=True)))
    return np.asarray(pd.factorize(pairs)[0], np.int64)
