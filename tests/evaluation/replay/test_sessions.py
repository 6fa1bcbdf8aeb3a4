"""Whole sessions: values that hang on what a session showed before, known by enumeration; watching as a log grows."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.evaluation.offline import evaluate_log
from recsys.evaluation.ope.bounds import confidence_sequence
from recsys.evaluation.ope.sessions import session_estimates
from recsys.evaluation.ope.trajectories import (
    Trajectories,
    per_decision_is,
    trajectory_is,
    weighted_per_decision_is,
    weighted_sequential_dr,
)
from recsys.evaluation.replay.comparison import ReplayOptions
from recsys.evaluation.replay.log import from_table
from recsys.evaluation.replay.policies import FunctionPolicy, Request
from recsys.evaluation.replay.verdict import Evaluation
from recsys.logs.schema import EVENTS
from tests.evaluation.replay.served_log import START, row

STEPS = 3
SHARES = np.array([0.25, 0.75])  # of the evaluated policy; the log is even
LURE = np.array([0.2, 0.5])  # chance of a click on either item at first


def chance(item: int, clicked: tuple[int, int]) -> float:
    """The second item lures and wearies; the first one keeps people."""
    return float(min(LURE[item] * 1.5 ** clicked[0] * 0.3 ** clicked[1], 1.0))


def true_value(shares: np.ndarray) -> float:
    """Return the expected clicks of a session, over every path."""
    total = 0.0
    for items, clicks in product(product((0, 1), repeat=STEPS), product((0, 1), repeat=STEPS)):
        probability, clicked = 1.0, [0, 0]
        for item, click in zip(items, clicks, strict=True):
            of_click = chance(item, (clicked[0], clicked[1]))
            probability *= shares[item] * (of_click if click else 1.0 - of_click)
            clicked[item] += click
        total += probability * sum(clicks)
    return total


def log_of(sessions: int, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(sessions):
        clicked, clock = [0, 0], START + 60.0 * user
        for step in range(STEPS):
            item, name = int(generator.integers(2)), f"r{user}-{step}"
            rows.append(
                row(f"{name}:0", user, clock, "ab"[item], c.IMPRESSION)
                | {c.RECOMMENDATION_ID: name, c.POSITION: 0, c.PROPENSITY: 0.5}
            )
            if generator.random() < chance(item, (clicked[0], clicked[1])):
                clicked[item] += 1
                rows.append(
                    row(f"{name}c", user, clock + 1, "ab"[item], c.CLICK) | {c.RECOMMENDATION_ID: name}
                )
            clock += 30.0
    return pa.Table.from_pylist(rows, schema=EVENTS)


def evaluated(sessions: int = 2_000, **how: object) -> Evaluation:
    def weights(request: Request) -> np.ndarray:
        return SHARES

    options = ReplayOptions(reward=RewardConfig(base={"click": 1.0}), **how)  # type: ignore[arg-type]
    policy = FunctionPolicy("mostly b", ("a", "b"), weights)
    return evaluate_log(from_table(log_of(sessions)), policy, options=options, self_test=False).evaluation


@pytest.fixture(scope="module")
def by_session() -> Evaluation:
    return evaluated(horizon="session", every_estimator=True)


def value(evaluation: Evaluation, estimator: str) -> float:
    rows = evaluation.estimates
    return next(one.value for one in rows if (one.policy, one.estimator) == ("mostly b", estimator))


def test_estimates_of_sessions_know_what_lists_do_to_later_lists(by_session: Evaluation) -> None:
    truth = true_value(SHARES)
    asked = ("ips", "snips", "dr", "weighted per-decision", "weighted dr")
    rows = [one for one in by_session.estimates if one.policy == "mostly b" and one.estimator in asked]
    assert len(rows) == len(asked)
    for one in rows:
        assert one.low <= truth <= one.high, one.estimator
        assert one.value == pytest.approx(truth, rel=0.08)
    assert "a session" in by_session.sentence
    assert by_session.provenance["value of"] == "a session"
    # list by list the weariness that the policy brings about is not seen
    assert STEPS * value(evaluated(1_000), "snips") > 1.05 * truth


def test_the_horizon_of_one_list_says_what_it_said(by_session: Evaluation) -> None:
    logged = next(one.value for one in by_session.estimates if one.estimator == "mean reward")
    assert logged == pytest.approx(true_value(np.array([0.5, 0.5])), rel=0.05)


def steps(seed: int = 0, sessions: int = 300) -> Trajectories:
    generator = np.random.default_rng(seed)
    length = generator.integers(1, 6, sessions)
    number = int(length.sum())
    chosen = generator.uniform(0.05, 1.0, number)
    return Trajectories(
        np.concatenate([[0], np.cumsum(length)]).astype(np.int64),
        generator.random(number),
        np.full(number, 0.5),
        chosen,
        1.0,
        generator.random(number),
        generator.random(number),
    )


def test_normalised_forms_are_those_of_the_library_and_resample_users() -> None:
    made = steps()
    found = session_estimates(
        made, np.zeros(len(made.reward), np.int64), np.arange(len(made)), np.random.default_rng(0)
    )
    assert found["weighted per-decision"].mean == pytest.approx(
        weighted_per_decision_is(made).numerator.mean()
    )
    assert found["weighted dr"].mean == pytest.approx(weighted_sequential_dr(made).numerator.mean())
    constant = Trajectories(
        made.offsets[: 1 + len(made)], np.ones_like(made.reward), made.propensity, made.chosen, 1.0
    )
    one_step = Trajectories(
        np.arange(501), np.ones(500), np.full(500, 0.5), np.random.default_rng(1).uniform(0.1, 1, 500), 1.0
    )
    sure = session_estimates(one_step, np.zeros(500, np.int64), np.arange(500), np.random.default_rng(0))
    assert sure["weighted per-decision"].low == pytest.approx(1.0)  # a constant reward leaves no doubt
    assert sure["weighted per-decision"].high == pytest.approx(1.0)
    assert per_decision_is(constant).numerator.mean() != pytest.approx(
        trajectory_is(constant).numerator.mean()
    )


def test_under_whole_a_session_is_weighed_as_a_trajectory() -> None:
    log = log_of(200)
    found = evaluated(200, horizon="session", assumption="whole")
    frame = log.to_pandas()
    shown = frame[frame[c.EVENT_TYPE] == c.IMPRESSION]
    clicks = set(frame.loc[frame[c.EVENT_TYPE] == c.CLICK, c.RECOMMENDATION_ID])
    made = Trajectories(
        np.arange(0, STEPS * 200 + 1, STEPS),
        shown[c.RECOMMENDATION_ID].isin(clicks).to_numpy(np.float64),
        np.full(STEPS * 200, 0.5),
        SHARES[(shown[c.ITEM_ID] == "b").to_numpy(int)],
        1.0,
    )
    assert value(found, "ips") == pytest.approx(float(trajectory_is(made).numerator.mean()))
    cascade = evaluated(200, horizon="session")
    assert value(cascade, "ips") == pytest.approx(float(per_decision_is(made).numerator.mean()))


def test_what_slope_and_least_error_choose_stands_in_the_report(by_session: Evaluation) -> None:
    names = [one.estimator for one in by_session.estimates]
    for family in ("clipped", "switch", "dros"):
        for how in ("SLOPE", "least error"):
            chosen = [name for name in names if name.startswith(f"{family} by {how}: ")]
            assert len(chosen) == 1
            setting = chosen[0].split(": ")[1]
            assert value(by_session, chosen[0]) == value(by_session, setting)
    assert {"clipped(1)", "switch(5)", "ips, whole", "ips, independent"} <= set(names)
    assert "clipped(1)" not in [one.estimator for one in evaluated(50).estimates]


def test_watched_bounds_are_the_confidence_sequence_and_never_hurried() -> None:
    found = evaluated(600)
    assert [one.lists for one in found.watched] == sorted({one.lists for one in found.watched})
    last = found.watched[-1]
    assert last.lists == STEPS * 600
    assert last.low <= found.differences[0].low  # wider than what may be read once
    assert last.high >= found.differences[0].high
    frame = log_of(600).to_pandas()
    shown = frame[frame[c.EVENT_TYPE] == c.IMPRESSION].sort_values(c.TIMESTAMP, kind="stable")
    clicks = set(frame.loc[frame[c.EVENT_TYPE] == c.CLICK, c.RECOMMENDATION_ID])
    reward = shown[c.RECOMMENDATION_ID].isin(clicks).to_numpy(np.float64)
    weight = SHARES[(shown[c.ITEM_ID] == "b").to_numpy(int)] / 0.5
    own = confidence_sequence(weight, reward, (0.0, 1.0), 0.975)
    log = confidence_sequence(np.ones(len(reward)), reward, (0.0, 1.0), 0.975)
    assert last.low == pytest.approx(own.low[-1] - log.high[-1], abs=1e-3)
    assert last.value == pytest.approx(own.mean[-1] - log.mean[-1])


def test_at_any_time_the_verdict_goes_by_the_watched_bounds() -> None:
    found = evaluated(600, any_time=True)
    assert (found.differences[0].low, found.differences[0].high) == (
        found.watched[-1].low,
        found.watched[-1].high,
    )
    assert "IPS, at any time" in found.sentence
