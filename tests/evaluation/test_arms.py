"""Two versions side by side: means of lists, users as clusters, an interval that holds the truth."""

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.evaluation.arms import Arms, compare_arms
from recsys.evaluation.replay.log import from_table
from recsys.logs.schema import EVENTS

START = 1_700_000_000_000_000


def log(lists: list[tuple[str, str, int, bool]]) -> pa.Table:
    """Return a log of lists (user, version, second, whether it was clicked)."""
    rows = []
    for number, (user, version, second, clicked) in enumerate(lists):
        moment = START + second * 1_000_000
        shared = {c.USER_ID: user, c.SESSION_ID: "s", c.ITEM_ID: "i", c.RECOMMENDATION_ID: f"r{number}"}
        blank = dict.fromkeys(EVENTS.names) | shared
        shown = {
            c.EVENT_TYPE: c.IMPRESSION,
            c.POSITION: 0,
            c.PROPENSITY: 1.0,
            c.POLICY_VERSION: f"{version} greedy",
        }
        rows.append(blank | shown | {c.EVENT_ID: f"s{number}", c.TIMESTAMP: moment})
        if clicked:
            rows.append(blank | {c.EVENT_TYPE: c.CLICK, c.EVENT_ID: f"c{number}", c.TIMESTAMP: moment + 1})
    return pa.Table.from_pylist(rows, EVENTS)


def compared(lists: list[tuple[str, str, int, bool]], since: int = 0) -> Arms:
    source = from_table(log(lists)).between(START + since * 1_000_000)
    return compare_arms(source, ("new", "old"), RewardConfig(), 3600.0)


def test_means_are_over_lists_since_a_moment_and_a_user_of_both_counts_for_the_old_one() -> None:
    arms = compared(
        [
            ("a", "new", 0, True), ("a", "new", 10, True), ("a", "new", 11, False), ("b", "new", 12, True),
            ("c", "old", 10, True), ("d", "old", 11, False), ("d", "old", 12, False), ("d", "old", 13, False),
            ("e", "new", 10, True), ("e", "old", 11, False), ("f", "else", 10, True),
        ],
        since=5,
    )  # fmt: skip
    assert arms.lists == (3, 5)
    assert arms.users == (2, 3)
    assert arms.mean == (pytest.approx(0.2 * 2 / 3), pytest.approx(0.2 / 5))
    assert arms.difference.mean == pytest.approx(0.2 * (2 / 3 - 1 / 5))


def test_without_users_on_a_side_nothing_is_known() -> None:
    arms = compared([("a", "new", 0, True), ("b", "old", 0, True)])
    assert (arms.difference.low, arms.difference.high) == (-np.inf, np.inf)


def test_the_interval_holds_the_truth_where_users_have_moods() -> None:
    """Lists of a user are alike, so that an interval which took them for independent would be far too narrow."""
    chance, held = np.random.default_rng(5), 0
    for _ in range(40):
        lists = [
            (f"u{user}", "new" if user % 4 == 0 else "old", second, bool(chance.random() < mood))
            for user in range(60)
            for mood in [chance.beta(1, 1) * (0.8 if user % 4 == 0 else 0.6)]
            for second in range(6)
        ]
        gap = compared(lists).difference
        held += gap.low <= 0.2 * (0.4 - 0.3) <= gap.high
    assert held >= 34  # of 40 at a nominal 95 %: fewer has a chance of 1 in 290
