"""No training/serving skew: the same events are the same history and the same tokens, offline and live."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines.index import served_state
from recsys.artifacts.bundle import load_bundle
from recsys.catalogue import Catalogue
from recsys.config import LogConfig, PrepareConfig, RewardConfig, SplitConfig
from recsys.evaluation.cold_start import history_of
from recsys.logs.prepare import prepare
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.mdp.state import StateBatch, encode_states
from recsys.mdp.windows import Windows, read_windows
from recsys.recommender import LoggedEvent, Recommender
from tests.factories import write_tiny_bundle

REWARD = RewardConfig(per_log_value={"purchase": 0.3})
TYPES = ("click", "purchase", "cancellation", "impression")  # live histories leave the last out
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
    root.mkdir()
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
    pq.write_table(table, root / "events.parquet")
    split = SplitConfig(test_from=datetime(1970, 1, 8, tzinfo=UTC), validation_share=0.5)
    prepare(
        PrepareConfig(log=LogConfig(path=root), split=split, reward=REWARD, content_features=4),
        7,
        root / "out",
    )
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
