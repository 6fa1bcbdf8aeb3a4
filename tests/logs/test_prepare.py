"""prepare, held against logs worked out by hand."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import PrepareConfig, RewardConfig, SplitConfig
from recsys.errors import UserError
from recsys.logs.export import export_tables
from recsys.logs.prepare import prepare
from recsys.logs.prepared import Role, open_prepared

HOUR = 3600
EVENTS = [
    # event, user, session, item, type, second, value
    ("a3", "ann", "s2", "y", "purchase", 30 * HOUR, 9.0),
    ("a1", "ann", "s1", "x", "click", 1 * HOUR, None),
    ("a2", "ann", "s1", "z", "click", 2 * HOUR, None),
    ("b1", "bob", "s3", "x", "click", 10 * HOUR, None),
    ("b2", "bob", "s3", "y", "click", 40 * HOUR, None),
    ("c1", "cat", "s4", "y", "purchase", 25 * HOUR, 1.0),
    ("n1", None, "s5", "x", "click", 3 * HOUR, None),
    ("n2", None, "s6", "z", "click", 26 * HOUR, None),
]
CUT = "1970-01-02T00:00:00"  # hour 24


def config(log, **split):
    """Return a configuration that cuts at hour 24 unless told otherwise."""
    settings = {"test_from": CUT, "validation_share": 0.5} | split
    return PrepareConfig(log=log, split=SplitConfig(**settings), content_features=4)


def by_user(prepared) -> dict[str | None, int]:
    """Return the history of each user; of anonymous sessions, by their first event."""
    users = pq.read_table(prepared.root / "users.parquet")["user_id"].to_pylist()
    events = pq.read_table(prepared.root / "events")["event_id"].to_pylist()
    return {
        users[user] if user >= 0 else events[prepared.history_offsets[history]]: history
        for history, user in enumerate(prepared.history_user)
    }


@pytest.fixture
def prepared(write_log, tmp_path):
    """The log above, prepared."""
    prepare(config(write_log(EVENTS)), 7, tmp_path / "out")
    return open_prepared(tmp_path / "out")


def test_a_history_holds_one_users_events_in_time_order(prepared):
    events = pq.read_table(prepared.root / "events")["event_id"].to_pylist()
    offsets = prepared.history_offsets
    histories = {name: events[offsets[at] : offsets[at + 1]] for name, at in by_user(prepared).items()}
    assert histories == {
        "ann": ["a1", "a2", "a3"],
        "bob": ["b1", "b2"],
        "cat": ["c1"],
        "n1": ["n1"],
        "n2": ["n2"],
    }


def test_arrays_say_what_the_events_say(prepared):
    at = by_user(prepared)["ann"]
    mine = slice(prepared.history_offsets[at], prepared.history_offsets[at + 1])
    assert prepared.item[mine].tolist() == [0, 2, 1]  # x, z, y by alphabet
    assert [prepared.info.event_types[code] for code in prepared.event_type[mine]] == [
        "click",
        "click",
        "purchase",
    ]
    assert prepared.reward[mine].tolist() == pytest.approx([0.2, 0.2, 1.0])
    assert prepared.timestamp[mine].tolist() == [1 * HOUR, 2 * HOUR, 30 * HOUR]
    assert prepared.session[mine].tolist() == [0, 0, 1]


def test_roles_and_ends_of_training_follow_the_cut(prepared):
    at = by_user(prepared)
    roles = {name: Role(prepared.history_role[history]) for name, history in at.items()}
    ends = {name: int(prepared.history_train_end[history]) for name, history in at.items()}
    # of ann and bob, seen before the cut, the half seen latest is validation
    assert roles == {
        "ann": Role.TRAIN,
        "bob": Role.COLD_VALIDATION,
        "cat": Role.COLD_TEST,
        "n1": Role.TRAIN,
        "n2": Role.TRAIN,
    }
    assert ends == {"ann": 2, "bob": 0, "cat": 0, "n1": 1, "n2": 0}
    assert prepared.info.test_from == "1970-01-02T00:00:00+00:00"
    assert prepared.info.validation_from == "1970-01-01T10:00:00+00:00"


def test_facts_are_counted(prepared):
    info = prepared.info
    assert (info.events, info.items, info.users, info.histories, info.sessions) == (8, 3, 3, 5, 6)
    assert (info.rows_read, info.quarantined, info.removed_by_rule) == (8, {}, {})
    assert (info.first_event, info.last_event) == ("1970-01-01T01:00:00+00:00", "1970-01-02T16:00:00+00:00")


def test_a_split_by_users_draws_whole_histories(write_log, tmp_path):
    events = [(f"e{n}", f"u{n % 200}", f"s{n}", "x", "click", n, None) for n in range(400)]
    info = prepare(
        config(write_log(events), kind="users", test_share=0.3, validation_share=0.2), 7, tmp_path / "out"
    )
    prepared = open_prepared(tmp_path / "out")
    counts = [len(prepared.with_role(role)) for role in Role]
    assert counts == pytest.approx([112, 28, 60], abs=25)
    assert prepared.history_train_end.tolist() == [
        2 if role == Role.TRAIN else 0 for role in prepared.history_role
    ]
    assert (info.test_from, info.validation_from) == (None, None)
    prepare(
        config(write_log(events), kind="users", test_share=0.3, validation_share=0.2), 8, tmp_path / "other"
    )
    assert open_prepared(tmp_path / "other").history_role.tolist() != prepared.history_role.tolist()


def test_runs_of_other_seeds_share_a_split_that_has_its_own(write_log, tmp_path):
    """So that their teachers can teach one student where users are drawn."""
    events = [(f"e{n}", f"u{n % 200}", f"s{n}", f"i{n % 5}", "click", n // 2, None) for n in range(400)]
    drawn = config(write_log(events), kind="users", test_share=0.3).model_copy(update={"seed": 3})
    for run in (7, 8):
        prepare(drawn, run, tmp_path / str(run))
    first, second = (open_prepared(tmp_path / str(run)) for run in (7, 8))
    assert first.history_role.tolist() == second.history_role.tolist()
    assert pq.read_table(first.root / "events") == pq.read_table(second.root / "events")
    prepare(drawn.model_copy(update={"seed": 4}), 7, tmp_path / "other")
    assert open_prepared(tmp_path / "other").history_role.tolist() != first.history_role.tolist()


def test_a_share_of_the_newest_events_makes_the_cut(write_log, tmp_path):
    events = [(f"e{n}", "u", "s", "x", "click", 100 + n, None) for n in range(10)]
    info = prepare(config(write_log(events), test_from=None, test_share=0.3), 7, tmp_path / "out")
    assert info.test_from == "1970-01-01T00:01:47+00:00"  # seconds 107, 108, 109


def test_ties_follow_the_seed_and_not_the_file(write_log, tmp_path):
    events = [(f"e{n}", "u", "s", f"i{n}", "click", 100 + n // 8, None) for n in range(16)]
    orders = []
    for number, (rows, seed) in enumerate([(events, 7), (events[::-1], 7), (events, 8)]):
        prepare(config(write_log(rows), kind="users"), seed, tmp_path / str(number))
        orders.append(pq.read_table(tmp_path / str(number) / "events")["event_id"].to_pylist())
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != [event[0] for event in events]


def test_sessions_of_one_instant_stay_together(write_log, tmp_path):
    events = [(f"e{n}", "u", f"s{n % 2}", "x", "click", 100, None) for n in range(20)]
    info = prepare(config(write_log(events), kind="users"), 7, tmp_path / "out")
    sessions = pq.read_table(tmp_path / "out" / "events")["session_id"].to_pylist()
    assert sessions in (["s0"] * 10 + ["s1"] * 10, ["s1"] * 10 + ["s0"] * 10)
    assert info.sessions == 2


def test_an_event_at_the_cut_is_not_trained_on(write_log, tmp_path):
    events = [("a", "u", "s", "x", "click", 1, None), ("b", "u", "s", "x", "click", 24 * HOUR, None)]
    prepare(config(write_log(events), validation_share=0.0), 7, tmp_path / "out")
    assert open_prepared(tmp_path / "out").history_train_end.tolist() == [1]


def test_a_user_and_an_anonymous_session_of_one_name_stay_apart(write_log, tmp_path):
    events = [("a", "same", "s", "x", "click", 1, None), ("b", None, "same", "x", "click", 2, None)]
    info = prepare(config(write_log(events), kind="users"), 7, tmp_path / "out")
    assert (info.histories, info.users) == (2, 1)


def test_users_of_the_user_table_keep_their_attributes_and_those_without_events_come_last(
    write_log, tmp_path
):
    log = write_log(EVENTS)
    countries = {"aaa": "PL", "ann": "FR", "bob": "DE", "zoe": "PL"} | {f"x{n}": "FR" for n in range(5)}
    table = pa.table({"user_id": list(countries), "country": list(countries.values())})
    pq.write_table(table, log.path / "users.parquet")
    prepare(config(log), 7, tmp_path / "out")
    prepared = open_prepared(tmp_path / "out")
    users = pq.read_table(tmp_path / "out" / "users.parquet").to_pylist()
    assert {user["user_id"] for user in users[:3]} == {"ann", "bob", "cat"}
    assert {user["user_id"]: user["country"] for user in users} == countries | {"cat": None}
    codes = {
        user["user_id"]: int(code) for user, code in zip(users, prepared.user_attributes[:, 0], strict=True)
    }
    assert prepared.info.user_attribute_values == (("FR", "other"),)
    assert (codes["ann"], codes["bob"], codes["cat"]) == (1, 2, 0)
    assert set(by_user(prepared)) == {"ann", "bob", "cat", "n1", "n2"}


def test_refused_rows_stand_in_the_quarantine_with_number_and_reason(write_log, tmp_path):
    bad = [
        ("q1", "ann", "s1", "unheard-of", "click", 5, None),
        ("q2", "ann", "s1", "x", "wave", 5, None),
        ("q3", "ann", "s1", None, "click", 5, None),
        ("q4", "ann", None, "x", "click", 5, None),
        ("q5", "ann", "s1", "x", "click", 5, float("inf")),
        ("q6", "ann", "s1", "x", "click", 10**11, None),
        ("a1", "ann", "s1", "x", "click", 1 * HOUR, None),
    ]
    log = write_log(bad + EVENTS, items=["x", "y", "z"], max_bad_share=0.5)
    info = prepare(config(log), 7, tmp_path / "out")
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        refused = [
            (line["row_number"], line["reason"], json.loads(line["row"])["event_id"])
            for line in csv.DictReader(file)
        ]
    assert refused[:6] == [
        ("1", "unknown item", "q1"),
        ("2", "unknown event type", "q2"),
        ("3", "missing item id", "q3"),
        ("4", "missing session id", "q4"),
        ("5", "value not finite", "q5"),
        ("6", "time outside 1900 to 2200", "q6"),
    ]
    assert refused[6][1:] == ("duplicate event id", "a1")
    assert info.quarantined == {reason: 1 for _, reason, _ in refused}
    assert info.rows_read == 15 == info.events + 7


def test_a_duplicate_names_the_row_that_stands_for_it(write_log, tmp_path):
    rows = [
        ("b1", "bob", "s9", "x", "click", 9 * HOUR, None),
        ("d1", "ann", "s8", "x", "click", 7 * HOUR, None),
        ("d1", "ann", "s8", "x", "click", 5 * HOUR, None),  # the earliest stays
        ("d1", "ann", "s8", "x", "click", 6 * HOUR, None),
        ("b1", "bob", "s9", "x", "click", 8 * HOUR, None),
    ]
    export_tables(write_log(rows, items=["x"], max_bad_share=0.9), tmp_path / "out")
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        kept = {line["row_number"]: line["kept_row"] for line in csv.DictReader(file)}
    assert kept == {"1": "5", "2": "3", "4": "3"}


def test_too_many_refused_rows_stop_the_run_and_leave_the_quarantine(write_log, tmp_path):
    log = write_log([*EVENTS, ("q", "ann", "s", "x", "wave", 5, None)], max_bad_share=0.1)
    with pytest.raises(UserError, match=r"1 of 9 rows \(11.1%\) were refused.*prepare.reward.base"):
        prepare(config(log), 7, tmp_path / "out")
    assert "unknown event type" in (tmp_path / "out" / "quarantine.csv").read_text()
    with pytest.raises(UserError, match="no prepared log"):
        open_prepared(tmp_path / "out")


def test_a_log_without_a_usable_event_is_refused(write_log, tmp_path):
    log = write_log([("q", "ann", "s", "x", "wave", 5, None)], max_bad_share=1.0)
    with pytest.raises(UserError, match=r"holds no usable event \(1 rows read\)"):
        prepare(config(log), 7, tmp_path / "out")
    with pytest.raises(UserError, match="holds no usable event"):
        prepare(config(write_log([])), 7, tmp_path / "out")


def test_a_cut_outside_the_log_is_refused(write_log, tmp_path):
    with pytest.raises(UserError, match=r"test_from is 2030-01-01.*must lie inside the log"):
        prepare(config(write_log(EVENTS), test_from="2030-01-01"), 7, tmp_path / "out")


def test_rewards_follow_the_configuration(write_log, tmp_path):
    reward = RewardConfig(base={"click": 0.1, "purchase": 0.0}, per_log_value={"purchase": 1.0})
    settings = PrepareConfig(log=write_log(EVENTS), split=SplitConfig(kind="users"), reward=reward)
    prepare(settings, 7, tmp_path / "out")
    prepared = open_prepared(tmp_path / "out")
    assert sorted(prepared.reward.tolist()) == pytest.approx([0.1] * 6 + [np.log(2), np.log(10)])


def test_progress_is_told_and_reaches_the_end(write_log, tmp_path):
    told = []
    prepare(config(write_log(EVENTS)), 7, tmp_path / "out", progress=lambda *facts: told.append(facts))
    assert [stage for stage, _, _ in told] == ["reading", "deduplicating", "sorting", "item content", "done"]
    assert told[-1] == ("done", 8, 8)


def test_folders_of_others_are_left_alone(write_log, tmp_path):
    log = write_log(EVENTS)
    with pytest.raises(UserError, match="holds the log"):
        prepare(config(log), 7, log.path)
    foreign = tmp_path / "foreign"
    (foreign / "events").mkdir(parents=True)
    (foreign / "events" / "part-00000.parquet").write_text("precious")
    with pytest.raises(UserError, match="events of another origin"):
        prepare(config(log), 7, foreign)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file, must be a folder"):
        prepare(config(log), 7, tmp_path / "file")
    assert (foreign / "events" / "part-00000.parquet").read_text() == "precious"


def test_preparing_again_replaces_what_was_there(write_log, tmp_path):
    prepare(config(write_log(EVENTS, rows_per_bucket=1)), 7, tmp_path / "out")
    prepare(config(write_log(EVENTS[:4])), 7, tmp_path / "out")
    assert open_prepared(tmp_path / "out").info.events == 4
    assert pq.read_table(tmp_path / "out" / "events").num_rows == 4
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".scratch")]
