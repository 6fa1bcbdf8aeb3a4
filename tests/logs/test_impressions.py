"""What was shown is kept for replay; it is no part of anybody's history, unless it is asked for as actions."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from recsys.config import LogConfig, PrepareConfig, RewardConfig, SplitConfig
from recsys.errors import UserError
from recsys.logs.prepare import prepare
from recsys.logs.prepared import Role, open_prepared

HOUR = 3600
EVENTS = [
    # event, user, session, item, type, second, value
    ("a1", "ann", "s1", "x", "click", 1 * HOUR, None),
    ("a2", "ann", "s1", "z", "click", 2 * HOUR, None),
    ("a3", "ann", "s2", "y", "purchase", 30 * HOUR, 9.0),
    ("b1", "bob", "s3", "x", "click", 10 * HOUR, None),
    ("c1", "cat", "s4", "y", "purchase", 25 * HOUR, 1.0),
    ("n1", None, "s5", "x", "click", 3 * HOUR, None),
    ("n2", None, "s6", "z", "click", 26 * HOUR, None),
    ("n3", None, "s6", "y", "click", 27 * HOUR, None),
]
SHOWN = [
    ("i1", "ann", "s0", "y", "impression", 0, None),  # before all else
    ("i2", "ann", "s1", "z", "impression", 1 * HOUR + 1, None),
    ("i3", "ann", "s9", "w", "impression", 29 * HOUR, None),  # a session without feedback
    ("i4", "cat", "s4", "x", "impression", 2 * HOUR, None),  # seen before the cut, by being shown something
    ("i5", "dan", "s7", "w", "impression", 3 * HOUR, None),  # never did anything
    ("i6", None, "s8", "x", "impression", 4 * HOUR, None),
]


def config(log, kind="time"):
    """Return a configuration that cuts at hour 24, or holds users out."""
    split = SplitConfig(kind=kind, test_from="1970-01-02T00:00:00", validation_share=0.5)
    return PrepareConfig(log=log, split=split, content_features=4)


def test_impressions_stand_in_the_event_table_and_in_no_history(write_log, tmp_path):
    """Everything that is learnt from is as if nothing had been shown, but for the items that only impressions name."""
    prepare(config(write_log(EVENTS)), 7, tmp_path / "plain")
    prepared = open_prepared(tmp_path / "plain")
    info = prepare(config(write_log(EVENTS + SHOWN)), 7, tmp_path / "shown")
    shown = open_prepared(tmp_path / "shown")
    plain = prepared.info
    assert (info.events, info.impressions, len(shown.item)) == (14, 6, 8)
    assert (info.histories, info.sessions) == (plain.histories, plain.sessions)
    assert (info.first_event, info.test_from, info.validation_from) == (
        plain.first_event,
        plain.test_from,
        plain.validation_from,
    )
    for name in ("event_type", "reward", "timestamp", "session", "history_offsets", "history_user"):
        assert getattr(shown, name).tolist() == getattr(prepared, name).tolist(), name
    for name in ("history_role", "history_train_end"):
        assert getattr(shown, name).tolist() == getattr(prepared, name).tolist(), name
    items = pq.read_table(shown.root / "items.parquet")["item_id"].to_pylist()
    assert [items[item] for item in shown.item] == ["xyz"[item] for item in prepared.item]
    kinds = pq.read_table(shown.root / "events")["event_type"].to_pylist()
    assert kinds.count("impression") == 6
    users = pq.read_table(shown.root / "users.parquet")["user_id"].to_pylist()
    assert users[-1] == "dan"
    assert set(users) == {"ann", "bob", "cat", "dan"}


def test_being_shown_something_breaks_no_silence(tmp_path):
    """Gap of an hour; an impression belongs to the session of the feedback that is nearer in time."""
    rows = [("click", 0), ("impression", 20), ("impression", 50), ("click", 75), ("impression", 600)]
    (tmp_path / "log.csv").write_text(
        "who,what,kind,when\n"
        + "".join(f"ann,x,{kind},{60 * minute}\n" for kind, minute in rows)
        + "dan,x,impression,0\ndan,x,impression,3600\ndan,x,impression,7201\n"
    )
    (tmp_path / "mapping.toml").write_text(
        'session_gap_minutes = 60\n[time]\nunit = "s"\n'
        '[columns]\nuser_id = "who"\nitem_id = "what"\nevent_type = "kind"\ntimestamp = "when"\n'
    )
    log = LogConfig(format="file", path=tmp_path / "log.csv", mapping=tmp_path / "mapping.toml")
    info = prepare(config(log, kind="users"), 7, tmp_path / "out")
    assert open_prepared(tmp_path / "out").session.tolist() == [0, 1]
    assert (info.events, info.impressions, info.sessions, info.histories) == (8, 6, 2, 1)
    events = pq.read_table(tmp_path / "out" / "events").to_pylist()
    sessions = {(e["user_id"], int(e["timestamp"].timestamp()) // 60): e["session_id"] for e in events}
    assert sessions == {
        ("ann", 0): "ann@0",
        ("ann", 20): "ann@0",
        ("ann", 50): "ann@4500",
        ("ann", 75): "ann@4500",
        ("ann", 600): "ann@4500",
        ("dan", 0): "dan@0",
        ("dan", 60): "dan@0",
        ("dan", 120): "dan@7201",
    }


def test_a_log_of_impressions_alone_is_refused(write_log, tmp_path):
    with pytest.raises(UserError, match=r"holds impressions only \(6\); add what users did"):
        prepare(config(write_log(SHOWN)), 7, tmp_path / "out")


def test_a_stretch_of_the_log_without_feedback_is_no_obstacle(write_log, tmp_path):
    """One row to a bucket: most buckets hold impressions only."""
    info = prepare(config(write_log(EVENTS + SHOWN, rows_per_bucket=1)), 7, tmp_path / "small")
    assert info == prepare(config(write_log(EVENTS + SHOWN)), 7, tmp_path / "large")


ANSWERED = [
    # what was shown, and what became of it: (event, user, session, item, type, second, value, recommendation)
    ("i1", "ann", "s1", "x", "impression", 10, None, "r1"),
    ("i2", "ann", "s1", "y", "impression", 10, None, "r1"),
    ("a1", "ann", "s1", "y", "click", 15, None, "r1"),
    ("a2", "ann", "s1", "y", "purchase", 40, 2.0, "r1"),  # a second response to the same impression
    ("i3", "ann", "s1", "y", "impression", 60, None, "r2"),  # the same item again, without response
    ("a3", "ann", "s2", "z", "click", 90, None, "r2"),  # r2 did not show z
    ("i4", "ann", "s2", "z", "impression", 95, None, None),
    ("a4", "ann", "s2", "z", "click", 99, None, None),  # nothing says what this answers
    ("i5", "bob", "s3", "y", "impression", 12, None, "r1"),  # another history: not answered by ann
    ("i6", "cat", "s4", "x", "impression", 3 * 24 * HOUR, None, "r9"),  # after all feedback
    ("i7", None, "s5", "x", "impression", 20, None, "r5"),
    ("n1", None, "s5", "x", "click", 21, None, "r5"),
]


def as_actions(log, **split):
    cut = SplitConfig(**split) if split else SplitConfig(kind="users", test_share=0.0, validation_share=0.0)
    return PrepareConfig(log=log, split=cut, content_features=4, impressions="actions")


def named(log: LogConfig, recommendations) -> LogConfig:
    path = log.path / "events.parquet"
    pq.write_table(
        pq.read_table(path).append_column("recommendation_id", pa.array(recommendations, pa.string())), path
    )
    return log


def test_as_actions_impressions_without_response_are_events_and_answered_ones_are_their_response(
    write_log, tmp_path
):
    for rows_per_bucket in (1, 1_000_000):
        out = tmp_path / f"out{rows_per_bucket}"
        log = named(
            write_log([row[:7] for row in ANSWERED], rows_per_bucket=rows_per_bucket),
            [row[7] for row in ANSWERED],
        )
        info = prepare(as_actions(log), 7, out)
        prepared = open_prepared(out)
        users = pq.read_table(out / "users.parquet")["user_id"].to_pylist()
        items = pq.read_table(out / "items.parquet")["item_id"].to_pylist()
        told = {}
        for history, user in enumerate(prepared.history_user.tolist()):
            part = slice(*prepared.history_offsets[history : history + 2])
            told[users[user] if user >= 0 else None] = [
                (items[item], info.event_types[kind], second)
                for item, kind, second in zip(
                    prepared.item[part], prepared.event_type[part], prepared.timestamp[part], strict=True
                )
            ]
        assert told == {
            "ann": [
                ("x", "impression", 10),
                ("y", "click", 15),
                ("y", "purchase", 40),
                ("y", "impression", 60),
                ("z", "click", 90),
                ("z", "impression", 95),
                ("z", "click", 99),
            ],
            "bob": [("y", "impression", 12)],
            "cat": [("x", "impression", 3 * 24 * HOUR)],
            None: [("x", "click", 21)],
        }
        shown = prepared.event_type == info.shown_type
        assert prepared.reward[shown].tolist() == [0.0] * 5
        assert (info.events, info.impressions, info.histories) == (12, 7, 4)
        assert info.last_event < "1970-01-01T00:02"  # of feedback
        assert prepared.history_train_end.tolist() == np.diff(prepared.history_offsets).tolist()


@pytest.mark.parametrize("kind", ["time", "users"])
def test_who_is_cold_and_where_the_cut_lies_is_the_same_for_actions(write_log, tmp_path, kind):
    """Feedback decides; those who were only shown things train."""
    generator = np.random.default_rng(0)
    rows = [
        (
            str(n),
            f"u{n % 30}",
            f"s{n % 30}",
            "xyz"[n % 3],
            "click",
            30_000 * (n % 30) + int(generator.integers(10**5)),
            None,
        )
        for n in range(200)
    ]
    rows += [
        (
            f"i{n}",
            f"u{n % 40}",
            f"s{n % 40}",
            "xyz"[n % 3],
            "impression",
            int(generator.integers(10**6)),
            None,
        )
        for n in range(400)
    ]
    split = SplitConfig(kind=kind, validation_share=0.3)
    log = write_log(rows)
    kept = {}
    for impressions in ("apart", "actions"):
        out = tmp_path / impressions
        info = prepare(
            PrepareConfig(log=log, split=split, content_features=4, impressions=impressions), 7, out
        )
        prepared = open_prepared(out)
        users = pq.read_table(out / "users.parquet")["user_id"].to_pylist()
        roles = dict(zip([users[user] for user in prepared.history_user], prepared.history_role, strict=True))
        kept[impressions] = (info.test_from, info.validation_from, info.first_event, info.last_event), roles
    (cuts, apart), (same_cuts, actions) = kept["apart"], kept["actions"]
    assert cuts == same_cuts
    assert {user: actions[user] for user in apart} == apart
    assert set(apart.values()) == set(Role)
    assert len(actions) == 40
    assert {actions[user] for user in set(actions) - set(apart)} == {Role.TRAIN}


def test_impressions_as_actions_need_a_reward():
    reward = RewardConfig(base={"click": 1.0})
    with pytest.raises(ValidationError, match=r"has no impression, .* add impression = 0\.0"):
        PrepareConfig(log=LogConfig(path="x"), reward=reward, impressions="actions")
