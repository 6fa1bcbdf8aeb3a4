"""One reason a row: the first that holds."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys.datasets.canonical import NULLABLE
from recsys.errors import UserError
from recsys.logs.quarantine import Quarantine
from recsys.logs.validation import refusals

GOOD = {
    "event_id": "e",
    "user_id": "u",
    "session_id": "s",
    "timestamp": datetime(2020, 1, 1, tzinfo=UTC),
    "item_id": "i",
    "event_type": "click",
    "value": 1.0,
    "position": 0,
    "propensity": 1.0,
}


def reason(changes: dict[str, object], sessions_are_named: bool = True, **marks: bool) -> str | None:
    """Return why a row that differs from a good one is refused."""
    events = pa.Table.from_pylist([GOOD | changes], schema=NULLABLE)
    unreadable = {"unparsable time": np.array([marks.get("bad_time", False)])}
    item, kind = (np.array([marks.get(name, False)]) for name in ("unknown_item", "unknown_type"))
    reasons, index = refusals(events, unreadable, sessions_are_named, item, kind)
    return reasons[index[0]] if index[0] >= 0 else None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"user_id": None}, None),
        ({"value": None, "position": None, "propensity": None}, None),
        ({"event_id": None}, "missing event id"),
        ({"item_id": None}, "missing item id"),
        ({"session_id": None}, "missing session id"),
        ({"event_type": None}, "missing event type"),
        ({"timestamp": None}, "missing time"),
        ({"timestamp": datetime(1899, 12, 31, tzinfo=UTC)}, "time outside 1900 to 2200"),
        ({"timestamp": datetime(2201, 1, 1, tzinfo=UTC)}, "time outside 1900 to 2200"),
        ({"value": float("nan")}, "value not finite"),
        ({"value": float("-inf")}, "value not finite"),
        ({"position": -1}, "position below 0"),
        ({"propensity": 0.0}, "propensity outside (0, 1]"),
        ({"propensity": 1.01}, "propensity outside (0, 1]"),
        ({"propensity": float("nan")}, "propensity outside (0, 1]"),
        ({"event_id": None, "item_id": None}, "missing event id"),
    ],
)
def test_each_defect_has_its_reason(changes, expected):
    assert reason(changes) == expected


def test_what_the_adapter_could_not_read_comes_first():
    assert reason({"timestamp": None}, bad_time=True) == "unparsable time"


def test_without_named_sessions_a_user_is_needed_and_a_session_is_not():
    assert reason({"session_id": None}, sessions_are_named=False) is None
    assert reason({"user_id": None}, sessions_are_named=False) == "missing user id"


def test_unknown_items_and_types_are_refused():
    assert reason({}, unknown_item=True) == "unknown item"
    assert reason({}, unknown_type=True) == "unknown event type"


def test_a_log_that_is_mostly_bad_is_given_up_early(tmp_path):
    with Quarantine(tmp_path / "quarantine.csv") as quarantine:
        quarantine.counts["unparsable time"] = 100_001
        quarantine.check_early(300_000, 0.01)  # not most of them
        quarantine.check_early(100_001, 1.0)  # all may be bad
        with pytest.raises(
            UserError, match=r"100,001 of 150,000 rows \(66.7%\) were refused.*unparsable time"
        ):
            quarantine.check_early(150_000, 0.01)
