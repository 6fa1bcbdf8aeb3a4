"""No training/serving skew: the same events are the same history and the same tokens, offline and live."""

import asyncio
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipelines.index import served_state
from recsys.artifacts.bundle import load_bundle
from recsys.catalogue import Catalogue
from recsys.config import LogConfig, PrepareConfig, RewardConfig, SplitConfig
from recsys.evaluation.cold_start import history_of
from recsys.logs.live_tables import LOGGED_EVENTS_VIEW
from recsys.logs.prepare import prepare
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.logs.schema import EVENTS, TIMESTAMP_TYPE
from recsys.mdp.state import History, StateBatch, encode_states
from recsys.mdp.windows import Windows, read_windows
from recsys.recommender import LoggedEvent, Recommender
from serving.engine import Ask
from serving.event_log import Impression
from serving.history_import import import_history
from serving.sql_store import SqlStore
from serving.store import EventRow
from tests.factories import write_tiny_bundle
from tests.serving.store_samples import open_embedded

REWARD = RewardConfig(per_log_value={"purchase": 0.3})
TYPES = (
    "click",
    "purchase",
    "cancellation",
    "impression",
)  # live histories leave the last out, unless told not to
USERS = 6


def raw_events(generator: np.random.Generator) -> list[tuple[str, LoggedEvent]]:
    """Return (user, event) rows in a random order; no two events of a user share a second."""
    rows = []
    for user in range(USERS):
        count = int(generator.integers(1, 25))
        seconds = np.sort(generator.choice(10**6, count, replace=False))
        for second in seconds:
            kind = TYPES[generator.integers(4)]
            value = float(generator.integers(1, 50)) if kind == "purchase" else None
            session = f"{user}-{second // 100_000}"
            rows.append(
                (f"u{user}", LoggedEvent(f"i{generator.integers(40)}", kind, value, float(second), session))
            )
    return [rows[place] for place in generator.permutation(len(rows))]


def write(rows: list[tuple[str, LoggedEvent]], root: Path) -> PreparedLog:
    table = pa.table(
        {
            "event_id": pa.array([str(place) for place in range(len(rows))]),
            "user_id": pa.array([user for user, _ in rows]),
            "session_id": pa.array([event.session_id for _, event in rows]),
            "item_id": pa.array([event.item_id for _, event in rows]),
            "event_type": pa.array([event.event_type for _, event in rows]),
            "timestamp": pa.array([int(event.timestamp) for _, event in rows]).cast(
                pa.timestamp("s", tz="UTC")
            ),
            "value": pa.array([event.value for _, event in rows], pa.float64()),
        }
    )
    return prepared(table, root)


def prepared(events: pa.Table, root: Path, impressions: str = "apart") -> PreparedLog:
    root.mkdir()
    pq.write_table(events, root / "events.parquet")
    split = SplitConfig(test_from=datetime(1970, 1, 8, tzinfo=UTC), validation_share=0.5)
    config = PrepareConfig(
        log=LogConfig(path=root), split=split, reward=REWARD, content_features=4, impressions=impressions
    )
    prepare(config, 7, root / "out")
    return open_prepared(root / "out")


def live_recommender(log: PreparedLog, folder: Path) -> Recommender:
    """Return a recommender whose ids, event types and rewards are the log's."""
    bundle = load_bundle(write_tiny_bundle(folder))
    ids = tuple(pq.read_table(log.root / "items.parquet")["item_id"].to_pylist())
    blank = Catalogue(ids, ids, ((),) * len(ids), np.ones(len(ids), np.float32), np.ones(len(ids), bool))
    info = replace(
        bundle.info,
        state=served_state(bundle.info.state, log.info),
        event_types=log.info.event_types,
        reward=REWARD,
        attributes=(),
        attribute_values=(),
        impressions=log.info.impressions_are,
    )
    popularity = np.ones(len(ids), np.float32)
    return Recommender(replace(bundle, catalogue=blank, info=info, popularity=popularity))


def test_live_events_are_the_history_and_the_tokens_that_training_saw(tmp_path: Path) -> None:
    for seed in range(4):
        rows = raw_events(np.random.default_rng(seed))
        log = write(rows, tmp_path / f"log{seed}")
        recommender = live_recommender(log, tmp_path / f"bundle{seed}")
        users = pq.read_table(log.root / "users.parquet")["user_id"].to_pylist()
        assert sorted(users) == sorted({user for user, _ in rows})
        for history, place in enumerate(log.history_user.tolist()):
            mine = sorted(
                (event for user, event in rows if user == users[place]), key=lambda event: event.timestamp
            )
            offline, live = history_of(log, history), recommender.history(mine)
            for name in ("item", "event_type", "reward", "timestamp", "session"):
                np.testing.assert_array_equal(getattr(live, name), getattr(offline, name), err_msg=name)
            start, end = log.history_offsets[history : history + 2]
            windows = Windows(np.array([start]), np.array([end]), np.array([history]))
            replayed, served = read_windows(log, windows, None), encode_states([live], 100)
            for name in StateBatch.__dataclass_fields__:
                if name != "attributes":  # the log has none
                    assert torch.equal(getattr(replayed, name), getattr(served, name)), name


def fill(store: SqlStore, run: asyncio.Runner, generator: np.random.Generator) -> None:
    """Let users be shown lists and do things, some with what a list showed, named or not."""
    for user in (f"u{number}" for number in range(USERS)):
        seconds = 50_000 + np.sort(generator.choice(10**6, int(generator.integers(4, 25)), replace=False))
        lists: list[tuple[str, tuple[str, ...], int]] = []
        for second in seconds.tolist():
            session = f"{user}-{second // 200_000}"
            if not lists or generator.random() < 0.5:
                items = tuple(f"i{item}" for item in generator.choice(40, 3, replace=False))
                recommendation = f"{user}-{second}"
                run.run(store.record(shown(recommendation, user, session, second, items)))
                lists.append((recommendation, items, second))
                continue
            recommendation, items, _ = lists[generator.integers(len(lists))]
            named = generator.random() < 0.7
            kind = TYPES[generator.integers(3)]
            value = float(generator.integers(1, 50)) if kind == "purchase" else None
            item = items[generator.integers(3)] if generator.random() < 0.8 else "i39"
            event = EventRow(f"{user}-{second}", user, session, second * 10**6, item, kind, value, None, None)
            run.run(store.append([event._replace(recommendation_id=recommendation if named else None)]))


def shown(recommendation: str, user: str, session: str, second: int, items: tuple[str, ...]) -> Impression:
    ask = Ask(user, session, len(items), 0, (), {}, (), True)
    row = (0.5,) * len(items)
    return Impression(
        recommendation, second * 10**6, ask, "v", "p", "adapted", 0, items, row, row, len(items)
    )


def logged(store: Path) -> pa.Table:
    """Return what the live store holds as the event table of a log."""
    with sqlite3.connect(store) as connection:
        rows = connection.execute(f"SELECT {', '.join(EVENTS.names)} FROM {LOGGED_EVENTS_VIEW}").fetchall()
    columns = dict(zip(EVENTS.names, zip(*rows, strict=True), strict=True))
    columns["timestamp"] = pa.array(columns["timestamp"], pa.int64()).cast(TIMESTAMP_TYPE)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in EVENTS})


def ordered(history: History) -> dict[str, np.ndarray]:
    """Return the columns with events of one second in a fixed order: in a log they have none."""
    order = np.lexsort((history.item, history.timestamp))
    names = ("item", "event_type", "reward", "timestamp", "session")
    return {name: getattr(history, name)[order] for name in names}


@pytest.mark.parametrize("impressions", ["apart", "actions"])
def test_what_the_endpoint_logged_trains_as_the_histories_that_it_served(
    tmp_path: Path, impressions: str
) -> None:
    """Live store -> its log -> prepare, and live store -> recommender: the same, and again from an imported log."""
    for seed in range(3):
        path, root = tmp_path / f"live{seed}.sqlite", tmp_path / f"log{seed}"
        with asyncio.Runner() as run:
            store = open_embedded(path)
            fill(store, run, np.random.default_rng(seed))
            log = prepared(logged(path), root, impressions)
            recommender = live_recommender(log, tmp_path / f"bundle{seed}")
            reads = recommender.reads_impressions
            assert reads == (impressions == "actions")
            imported = tmp_path / f"imported{seed}.sqlite"
            import_history(imported, log.root / "events", 300, impressions=reads)
            again = open_embedded(imported)
            users = pq.read_table(log.root / "users.parquet")["user_id"].to_pylist()
            served = 0
            for history, place in enumerate(log.history_user.tolist()):
                offline = history_of(log, history)
                for source in (store, again):
                    events = run.run(source.newest(users[place], 300, impressions=reads))
                    live = recommender.history(events)
                    for name, column in ordered(live).items():
                        np.testing.assert_array_equal(column, ordered(offline)[name], err_msg=name)
                    # the newest few are the end of all: what was answered stays answered
                    few = recommender.history(run.run(source.newest(users[place], 5, impressions=reads)))
                    newest = few.timestamp[-5:].tolist()
                    assert newest == offline.timestamp[-5:].tolist()
                served += len(offline)
            assert served == len(log.item)
            codes = set(np.asarray(log.info.event_types)[np.unique(log.event_type)].tolist())
            assert ("impression" in codes) == reads
            for each in (store, again):
                run.run(each.close())


def test_sessions_that_a_silence_ends_are_the_same_live(tmp_path: Path) -> None:
    """A gap of 240 minutes, met exactly and missed by a microsecond, with fractions of a second."""
    gap = 240 * 60.0
    moments = np.cumsum([1000.25, gap, gap + 1e-6, gap - 0.5, gap + 0.75, 60.0])
    (tmp_path / "log.csv").write_text(
        "who,what,when\n" + "".join(f"ann,i{place},{moment:.6f}\n" for place, moment in enumerate(moments))
    )
    (tmp_path / "mapping.toml").write_text(
        'event_type = "click"\nsession_gap_minutes = 240\n[time]\nunit = "s"\n'
        '[columns]\nuser_id = "who"\nitem_id = "what"\ntimestamp = "when"\n'
    )
    log_config = LogConfig(format="file", path=tmp_path / "log.csv", mapping=tmp_path / "mapping.toml")
    prepare(
        PrepareConfig(log=log_config, split=SplitConfig(kind="users"), reward=REWARD, content_features=4),
        7,
        tmp_path / "out",
    )
    log = open_prepared(tmp_path / "out")
    assert log.info.session_gap_s == gap
    recommender = live_recommender(log, tmp_path / "bundle")
    live = recommender.history(
        [LoggedEvent(f"i{place}", "click", None, moment, None) for place, moment in enumerate(moments)]
    )
    assert log.session.tolist() == [0, 0, 1, 1, 2, 2]
    assert live.session.tolist() == log.session.tolist()
    assert live.timestamp.tolist() == log.timestamp.tolist()
