"""What is in a log, on logs small enough to count by hand."""

import pandas as pd
import pytest

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.frames.overview import activity, gini, popularity, quality, sessions, with_reward
from recsys.frames.tables import events_frame
from recsys.logs.schema import EVENTS


def log(*rows: tuple[str, str | None, str, str, str, str, float | None]) -> pd.DataFrame:
    """Return events of (id, user, session, time, item, type, value)."""
    names = [c.EVENT_ID, c.USER_ID, c.SESSION_ID, c.TIMESTAMP, c.ITEM_ID, c.EVENT_TYPE, c.VALUE]
    frame = pd.DataFrame(rows, columns=names)
    frame[c.TIMESTAMP] = pd.to_datetime(frame[c.TIMESTAMP], utc=True)
    frame[c.VALUE] = frame[c.VALUE].astype(float)
    for name in (c.RECOMMENDATION_ID, c.POSITION, c.PROPENSITY, c.POLICY_VERSION):
        frame[name] = None
    return frame[EVENTS.names]


SMALL = log(
    ("1", "ann", "s1", "2024-01-01 10:00", "a", "purchase", 5.0),
    ("2", "ann", "s1", "2024-01-01 10:30", "b", "purchase", 2.0),
    ("3", "bob", "s2", "2024-01-20 10:00", "a", "click", None),
    ("4", "ann", "s3", "2024-02-02 10:30", "a", "cancellation", -5.0),
    ("5", None, "s4", "2024-02-03 09:00", "c", "purchase", 1.0),
)


def test_a_session_has_its_length_its_worth_and_the_silence_before_it() -> None:
    got = sessions(SMALL)
    assert got.index.to_list() == ["s1", "s2", "s3", "s4"]
    assert got.loc["s1", ["events", "items", "value", "reward", "minutes", "events_before"]].to_list() == [
        2, 2, 7.0, 2.0, 30.0, 0,
    ]  # fmt: skip
    assert got.loc["s3", "days_since_last"] == pytest.approx(32.0)
    assert got.loc["s3", ["reward", "events_before"]].to_list() == [-1.0, 2]
    assert got["days_since_last"].isna().to_list() == [True, True, False, True]
    assert got.loc["s4", "events_before"] == 0  # nobody's


def test_sessions_of_a_log_without_any_are_refused() -> None:
    with pytest.raises(UserError, match="recsys prepare"):
        sessions(SMALL.assign(session_id=None))


def test_reward_follows_the_configuration() -> None:
    config = RewardConfig(base={"purchase": 2.0}, per_log_value={})
    assert with_reward(SMALL, config)["reward"].to_list() == [2.0, 2.0, 0.0, 0.0, 2.0]


def test_popularity_counts_events_and_users_and_adds_up_to_everything() -> None:
    got = popularity(SMALL)
    assert got.index[0] == "a"
    assert got.loc["a", ["events", "users", "share"]].to_list() == [3, 2, 0.6]
    assert got["cumulative"].iloc[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("counts", "expected"), [([1, 1, 1, 1], 0.0), ([0, 0, 0, 1], 0.75), ([1, 3], 0.25)])
def test_gini_of_counts_worked_by_hand(counts: list[int], expected: float) -> None:
    assert gini(counts) == pytest.approx(expected)


def test_activity_tells_new_users_from_returning_ones() -> None:
    got = activity(SMALL)
    assert [str(period) for period in got.index] == ["2024-01", "2024-02"]
    assert got["active_users"].to_list() == [2, 1]
    assert got["new_users"].to_list() == [2, 0]
    assert got["returning_users"].to_list() == [0, 1]
    assert got["anonymous"].to_list() == [0, 1]
    assert got["cold_share"].to_list() == [1.0, 1.0]  # nobody has ten events before


def test_an_event_is_cold_until_its_user_has_ten_before_it() -> None:
    rows = [(str(n), "u", "s", f"2024-01-{n + 1:02}", "a", "click", None) for n in range(15)]
    assert activity(log(*rows))["cold_events"].to_list() == [10]


def test_quality_finds_what_was_broken_and_nothing_else() -> None:
    clean = quality(SMALL, ["a", "b", "c"], ["ann", "bob"])
    broken = pd.concat([SMALL, SMALL.iloc[[1]]], ignore_index=True)
    found = quality(broken, ["a", "b"], ["ann"])
    assert clean.loc["event id given twice", "events"] == 0
    assert clean.loc[["no user (anonymous)", "no value", "value below 0"], "events"].to_list() == [1, 1, 1]
    assert found.loc["event id given twice", ["events", "example"]].to_list() == [1, "2"]
    assert found.loc["same user, item, time and type", "events"] == 1
    assert found.loc["time shared with another event of the user", "events"] == 2
    assert found.loc["item not in the item table", ["events", "example"]].to_list() == [1, "5"]
    assert found.loc["user not in the user table", ["events", "example"]].to_list() == [1, "3"]


def test_an_impression_without_propensity_is_found() -> None:
    shown = log(("1", "ann", "s1", "2024-01-01", "a", "impression", None))
    assert quality(shown).loc["impression without propensity", "events"] == 1


def test_columns_that_a_table_lacks_are_there_and_empty() -> None:
    import pyarrow as pa

    frame = events_frame(pa.table({c.ITEM_ID: ["a"], c.TIMESTAMP: pa.array([0], pa.timestamp("s"))}))
    assert frame.columns.to_list() == EVENTS.names
    assert frame[c.PROPENSITY].isna().all()
    assert str(frame[c.TIMESTAMP].dtype) == "datetime64[us, UTC]"
