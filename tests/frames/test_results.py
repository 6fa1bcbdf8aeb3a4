"""Results per user and the intervals made of them."""

import numpy as np
import pandas as pd
import pytest

from recsys.errors import UserError
from recsys.evaluation.ranking import QuerySets
from recsys.frames.rates import between, rates
from recsys.frames.results import curve, differences_by_user, per_user

QUERY = QuerySets.of([np.array([1, 2], np.int32), np.array([5], np.int32)])
LISTS = {
    "good": {0: np.array([[1, 2], [5, 0]], np.int32), 3: np.array([[1, 2], [5, 0]], np.int32)},
    "late": {0: np.array([[0, 1], [0, 5]], np.int32), 3: np.array([[3, 4], [3, 4]], np.int32)},
}


def test_every_user_has_a_row_for_every_policy_and_number_of_shots() -> None:
    got = per_user(LISTS, QUERY, ["ann", "bob"]).set_index(["policy", "shots", "user"])
    assert len(got) == 8
    discount = 1.0 / np.log2(3.0)
    assert got.loc[("good", 0, "ann"), "ndcg"] == pytest.approx(1.0)
    assert got.loc[("late", 0, "ann"), "ndcg"] == pytest.approx(discount / (1.0 + discount))
    assert got.loc[("late", 0, "ann"), "recall"] == pytest.approx(0.5)
    assert got.loc[("late", 0, "bob"), "ndcg"] == pytest.approx(discount)
    assert got.loc[("late", 3, "bob"), "recall"] == 0.0


def test_names_must_be_as_many_as_users() -> None:
    with pytest.raises(UserError, match="1 users are named for 2 queries"):
        per_user(LISTS, QUERY, ["ann"])


def test_a_curve_is_the_mean_with_an_interval_around_it() -> None:
    got = curve(per_user(LISTS, QUERY), "recall").set_index(["policy", "shots"])
    assert got.loc[("good", 0), ["users", "mean", "low", "high"]].to_list() == [2, 1.0, 1.0, 1.0]
    row = got.loc[("late", 0)]
    assert row["mean"] == pytest.approx(0.75)
    assert row["low"] == pytest.approx(0.5)
    assert row["high"] == pytest.approx(1.0)


def test_differences_are_paired_by_user() -> None:
    generator = np.random.default_rng(3)
    base = generator.random(200)
    frame = pd.concat(
        [
            pd.DataFrame({"policy": name, "shots": 1, "user": np.arange(200), "ndcg": base + gain})
            for name, gain in (("a", 0.1), ("b", 0.0))
        ]
    )
    got = differences_by_user(frame.sample(frac=1.0, random_state=1), "a").iloc[0]
    assert got["against"] == "b"
    # users differ widely, the difference does not: only pairing gives an interval without width
    assert got[["mean", "low", "high"]].astype(float).to_list() == pytest.approx([0.1, 0.1, 0.1])
    with pytest.raises(UserError, match="no results of 'c'"):
        differences_by_user(frame, "c")


def test_a_rate_of_independent_rows_has_the_usual_standard_error() -> None:
    generator = np.random.default_rng(5)
    y = generator.random(400)
    frame = pd.DataFrame({"user_id": np.arange(400).astype(str), "y": y, "group": "all"})
    row = rates(frame, "y", "group").loc["all"]
    half = 1.9659 * y.std(ddof=1) / 20.0  # t with 399 degrees of freedom
    assert row["mean"] == pytest.approx(y.mean())
    assert row["high"] - row["mean"] == pytest.approx(half, rel=1e-3)


def test_rows_of_one_user_are_not_counted_as_so_many_users() -> None:
    once = pd.DataFrame({"user_id": [str(n) for n in range(50)], "y": np.arange(50.0), "g": "x"})
    often = pd.concat([once] * 20)
    alike = rates(once, "y", "g").loc["x"], rates(often, "y", "g").loc["x"]
    assert alike[1]["rows"] == 1000
    assert alike[0]["low"] == pytest.approx(alike[1]["low"])


def test_intervals_of_rates_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(11)
    held = 0
    for _ in range(200):
        mood = np.repeat(generator.normal(size=40), 5)
        y = mood + generator.normal(size=200)
        frame = pd.DataFrame({"user_id": np.repeat(np.arange(40), 5).astype(str), "y": y, "g": 0})
        row = rates(frame, "y", "g").loc[0]
        held += bool(row["low"] <= 0.0 <= row["high"])
    assert 180 <= held <= 198  # 95 % of 200, give or take


def test_one_user_has_a_rate_and_no_bounds_and_anonymous_rows_are_users_of_their_own() -> None:
    frame = pd.DataFrame(
        {"user_id": ["ann", "ann", None, None], "y": [1.0, 0.0, 1.0, 0.0], "g": ["a", "a", "b", "b"]}
    )
    got = rates(frame, "y", "g")
    assert got["users"].to_list() == [1, 2]
    assert got["low"].isna().to_list() == [True, False]
    with pytest.raises(UserError, match="no column z"):
        rates(frame, "z", "g")


def test_a_difference_of_groups_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(12)
    held = 0
    for _ in range(200):
        y = np.concatenate([generator.normal(1.0, 1.0, 60), generator.normal(0.0, 3.0, 60)])
        frame = pd.DataFrame({"user_id": np.arange(120).astype(str), "y": y, "g": ["a"] * 60 + ["b"] * 60})
        gap = between(rates(frame, "y", "g"), "a", "b")
        held += bool(gap["low"] <= 1.0 <= gap["high"])
    assert 180 <= held <= 198
    with pytest.raises(UserError, match="no group c"):
        between(rates(frame, "y", "g"), "a", "c")
