"""The decision: what must clear what, in numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.artifacts.health_gate import HealthCheck
from recsys.evaluation.ope.gates import Gate
from recsys.evaluation.promotion import Measured, decide, limits
from recsys.evaluation.replay.verdict import DifferenceRow, Evaluation
from recsys.loop_config import ImproveConfig

EVALUATION = Evaluation(
    decision="better",
    sentence="It is better.",
    policy="new",
    against="old",
    headline="dr",
    estimates=(),
    differences=(DifferenceRow("new", "old", 0.02, 0.01, 0.03, 0.1),),
    gates={},
    self_tests=(),
    cohorts=(),
    periods=(),
    assumption="lists of one item",
    provenance={},
    weights={},
    watched=(),
)
CHEAP = Measured(1.0, 2.0, 10.0)


@pytest.mark.parametrize(
    ("low", "high", "margin", "outcome"),
    [
        (0.01, 0.03, 0.0, "promoted"),
        (0.01, 0.03, 0.04, "promoted"),  # of the old one's 0.2: 0.008
        (0.01, 0.03, 0.05, "kept"),  # 0.01 must be exceeded, not met
        (0.0, 0.03, 0.0, "kept"),
        (-0.05, -0.01, 0.0, "kept"),
    ],
)
def test_the_lower_bound_must_exceed_the_margin(low: float, high: float, margin: float, outcome: str) -> None:
    row = replace(EVALUATION.differences[0], low=low, high=high)
    found = decide(replace(EVALUATION, differences=(row,)), [], ImproveConfig(margin=margin))
    assert found.outcome == outcome
    assert ("is worse" in found.why) == (high < 0)


def test_a_refused_replay_promotes_nobody_and_a_broken_limit_comes_first() -> None:
    refused = replace(EVALUATION, decision="cannot say", sentence="These logs cannot say.")
    few = Gate("effective sample size", "fail", 68.0, "≥ 100", "too few")
    said = decide(replace(refused, gates={"new": [few]}), [], ImproveConfig())
    assert said.outcome == "cannot say"
    assert said.why == "old stays, new is not judged: effective sample size: too few."
    assert decide(refused, ["it is slow"], ImproveConfig()).outcome == "kept"
    assert "it is slow" in decide(EVALUATION, ["it is slow"], ImproveConfig()).why


def test_each_limit_is_measured_against_its_own_bound() -> None:
    config = ImproveConfig(max_p95_ms=2.0, max_latency_ratio=1.5, max_bundle_mb=10.0)
    assert limits(CHEAP, CHEAP, [], config) == []
    assert len(limits(replace(CHEAP, p95_ms=2.1), CHEAP, [], config)) == 1
    assert len(limits(CHEAP, replace(CHEAP, median_ms=0.6), [], config)) == 1
    assert len(limits(replace(CHEAP, megabytes=11.0), CHEAP, [], config)) == 1
    checks = [HealthCheck("over-estimation", "s", value, 2.0, "r") for value in (1.0, 3.0, None)]
    assert len(limits(CHEAP, CHEAP, checks, config)) == 1
    assert limits(replace(CHEAP, median_ms=np.nan), CHEAP, [], config) == []
