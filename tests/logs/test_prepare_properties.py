"""For every log: rows are accounted for, and neither their order nor the sizes of buffers matter."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import LogConfig, PrepareConfig, SplitConfig
from recsys.logs.prepare import prepare
from recsys.logs.prepared import ARRAYS, open_prepared

ids = st.sampled_from([None, "", "a", "b", "c", "dd", "ee"])
rows = st.tuples(
    st.integers(0, 40).map(str),  # few ids: duplicates happen
    ids,
    st.sampled_from([None, "s", "t", "u"]),
    st.sampled_from([None, "x", "y", "unknown"]),
    st.sampled_from([None, "click", "purchase", "impression", "wave"]),
    st.integers(0, 30),
    st.sampled_from([None, 1.0, -2.5, float("inf"), float("nan")]),
)
sound = ("sound", "z", "s", "x", "click", 7, 1.0)  # at least one event is usable


def written(events: list[tuple], root: Path, **sizes: int) -> Path:
    """Prepare rows and return the folder."""
    log, out = root / "log", root / f"out-{len(list(root.iterdir()))}"
    log.mkdir(exist_ok=True)
    names = ("event_id", "user_id", "session_id", "item_id", "event_type")
    columns = {
        name: pa.array([event[place] for event in events], pa.string()) for place, name in enumerate(names)
    }
    columns["timestamp"] = pa.array([event[5] for event in events]).cast(pa.timestamp("s"))
    columns["value"] = pa.array([event[6] for event in events], pa.float64())
    pq.write_table(pa.table(columns), log / "events.parquet")
    pq.write_table(pa.table({"item_id": ["x", "y"], "title": ["red", "blue"]}), log / "items.parquet")
    settings = LogConfig(path=log, max_bad_share=1.0, **sizes)
    prepare(PrepareConfig(log=settings, split=SplitConfig(kind="users"), content_features=4), 7, out)
    return out


def contents(out: Path) -> dict[str, list[object]]:
    """Return everything that later steps read."""
    prepared = open_prepared(out)
    arrays = {name: np.asarray(getattr(prepared, name)).tolist() for name in ARRAYS}
    events = pq.read_table(out / "events").to_pylist()
    users = pq.read_table(out / "users.parquet").to_pylist()
    return arrays | {"events": [str(event) for event in events], "users": users}


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=40), st.randoms())
def test_the_order_of_the_rows_changes_nothing(events, random):
    events = [*events, sound]
    shuffled = random.sample(events, len(events))
    with tempfile.TemporaryDirectory() as folder:
        assert contents(written(events, Path(folder))) == contents(written(shuffled, Path(folder)))


# sound rows that often share their id and then say different things
rivals = st.tuples(
    st.sampled_from(["e1", "e2", "e3"]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from(["s", "t"]),
    st.sampled_from(["x", "y"]),
    st.sampled_from(["click", "purchase"]),
    st.integers(0, 1),
    st.sampled_from([None, 1.0, 2.0]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(rivals, min_size=2, max_size=8), st.randoms())
def test_which_of_two_duplicates_stays_does_not_depend_on_their_order(events, random):
    shuffled = random.sample(events, len(events))
    with tempfile.TemporaryDirectory() as folder:
        assert contents(written(events, Path(folder))) == contents(written(shuffled, Path(folder)))


@settings(max_examples=30, deadline=None)
@given(st.lists(rows, max_size=40), st.integers(1, 50), st.integers(1, 50))
def test_the_sizes_of_batches_and_buckets_change_nothing(events, batch_rows, rows_per_bucket):
    events = [*events, sound]
    with tempfile.TemporaryDirectory() as folder:
        whole = written(events, Path(folder))
        pieces = written(events, Path(folder), batch_rows=batch_rows, rows_per_bucket=rows_per_bucket)
        assert contents(whole) == contents(pieces)


@settings(max_examples=30, deadline=None)
@given(st.lists(rows, max_size=60), st.integers(1, 20))
def test_every_row_is_an_event_or_in_the_quarantine(events, rows_per_bucket):
    events = [*events, sound]
    with tempfile.TemporaryDirectory() as folder:
        out = written(events, Path(folder), rows_per_bucket=rows_per_bucket)
        info = open_prepared(out).info
        refused = (out / "quarantine.csv").read_text().splitlines()[1:]
        kept = pq.read_table(out / "events")["event_id"].to_pylist()
    assert info.rows_read == len(events) == info.events + sum(info.quarantined.values())
    assert len(refused) == sum(info.quarantined.values())
    assert len(set(kept)) == len(kept) == info.events
    good = {event[0] for event in events if is_sound(event)}
    assert set(kept) == good


def is_sound(event: tuple) -> bool:
    """Say, in the plainest way, whether a row can be used."""
    _, _, session, item, kind, _, value = event
    return (
        session is not None
        and item in ("x", "y")
        and kind in ("click", "purchase", "impression")
        and value != float("inf")  # a NaN is a missing value
    )
