"""Gates refuse what they must, let sound logs pass, and say why."""

import numpy as np
import pytest

from recsys.evaluation.offline import estimate
from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.estimators import Floored, ips, snips
from recsys.evaluation.ope.gates import (
    Gate,
    agreement_gate,
    binned_calibration,
    calibration_gate,
    drift_gate,
    exact_support,
    floor_gate,
    refused,
    weight_gates,
)
from recsys.evaluation.ope.rounds import Rounds
from recsys.evaluation.ope.synthetic import synthetic_bandit


def verdicts(gates: list[Gate]) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in gates}


def test_a_sound_log_passes_and_hardly_ever_raises_an_alarm() -> None:
    world = synthetic_bandit(0.6, rate=0.3)
    generator = np.random.default_rng(0)
    alarms = sum(
        refused(weight_gates(sum_rounds(world.log(1000, generator), {"snips": snips}), 0)) for _ in range(300)
    )
    assert alarms <= 4  # |z| > 3 by chance: 1 in 370


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_missing_support_is_refused_though_the_effective_sample_is_large(share: float) -> None:
    world = synthetic_bandit(0.8, actions=1000 if share > 0.9 else 20, unsupported=share)
    rounds = world.log(1000, np.random.default_rng(1))
    found = estimate(rounds, reward_range=(0.0, 1.0))
    assert found.refused
    said = verdicts(found.gates)
    assert said["mean weight"] == "fail"
    assert said["effective sample size"] == "pass"
    large = found.clustered["ips"]
    if share > 0.9:  # the standard interval is off without a word
        assert not large.low <= world.truth <= large.high


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_wrong_propensities_are_refused(factor: float) -> None:
    rounds = synthetic_bandit(0.7).log(4000, np.random.default_rng(2))
    wrong = Rounds(rounds.reward, np.minimum(rounds.propensity * factor, 1.0), rounds.chosen)
    assert verdicts(weight_gates(sum_rounds(wrong, {"snips": snips}), 0))["mean weight"] == "fail"


def test_one_round_must_not_decide_and_no_match_is_no_answer() -> None:
    heavy = Rounds(np.ones(200), np.append(np.full(199, 0.5), 1e-4), np.append(np.full(199, 0.25), 0.9))
    gates = {gate.name: gate for gate in weight_gates(sum_rounds(heavy, {"snips": snips}), 0)}
    assert gates["largest weight"].verdict == "fail"
    assert (
        "must be at most 10%: wait for more lists, or let what logs explore more"
        in gates["largest weight"].says
    )
    assert gates["effective sample size"].verdict == "fail"
    assert "must be worth at least 100: wait for more lists, or" in gates["effective sample size"].says
    nothing = Rounds(np.ones(50), np.full(50, 0.5), np.zeros(50))
    assert verdicts(weight_gates(sum_rounds(nothing, {"ips": ips}), 0))["mean weight"] == "fail"


def test_mass_on_actions_with_propensity_zero_is_counted() -> None:
    behaviour, evaluation = np.array([[0.5, 0.5, 0.0]]), np.array([[0.2, 0.2, 0.6]])
    gate = exact_support(behaviour, evaluation)
    assert (gate.verdict, gate.value) == ("fail", pytest.approx(0.6))
    assert exact_support(behaviour, behaviour).verdict == "pass"


def test_calibrated_tables_pass_and_sharpened_ones_do_not() -> None:
    generator = np.random.default_rng(3)
    table = generator.dirichlet(np.ones(6), 4000)
    action = (generator.random((4000, 1)) > np.cumsum(table, axis=1)).sum(axis=1)
    assert calibration_gate(table[np.arange(4000), action], table=table, action=action).verdict == "pass"
    sharp = table**1.5 / (table**1.5).sum(axis=1, keepdims=True)
    wrong = calibration_gate(sharp[np.arange(4000), action], table=sharp, action=action)
    assert wrong.verdict == "fail"
    assert "is claimed" in wrong.says
    rows = binned_calibration(table, action)
    assert sum(row.pairs for row in rows) == table.size


def test_logged_propensities_alone_show_excess() -> None:
    generator = np.random.default_rng(4)
    propensity = np.full(5000, 0.1)
    assert calibration_gate(propensity, np.full(5000, 10.0)).verdict == "pass"
    noisy = propensity * generator.uniform(0.4, 0.9, 5000)
    assert calibration_gate(noisy, np.full(5000, 10.0)).verdict == "fail"
    assert calibration_gate(propensity).verdict == "warn"


def test_drift_is_measured_beyond_chance() -> None:
    generator = np.random.default_rng(5)
    even = generator.multinomial(500, np.full(200, 1 / 200), 2)
    assert drift_gate(even[0], even[1]).verdict == "pass"
    slope = np.arange(1, 201) ** 2.0
    shifted = generator.multinomial(500, slope / slope.sum())
    assert drift_gate(even[0], shifted).verdict == "warn"


def test_an_answer_that_hangs_on_the_rarest_choices_is_flagged() -> None:
    propensity = np.append(np.full(900, 0.5), np.full(100, 0.002))
    reward = np.append(np.zeros(900), np.ones(100))
    rounds = Rounds(reward, propensity, np.minimum(propensity * 1.0, 1.0))
    sums = sum_rounds(rounds, {"snips": snips, "low": Floored(0.001, snips), "high": Floored(0.1, snips)})
    assert floor_gate(sums, "snips", {0.001: "low"}).verdict == "pass"
    assert floor_gate(sums, "snips", {0.001: "low", 0.1: "high"}).verdict == "warn"


def test_estimators_that_disagree_are_named() -> None:
    generator = np.random.default_rng(6)
    world = synthetic_bandit(0.5, unsupported=0.5, rate=0.5)
    sums = sum_rounds(world.log(5000, generator), {"ips": ips, "snips": snips})
    gate = agreement_gate(sums, ["ips", "snips"])
    assert gate.verdict == "warn"
    assert "snips and ips" in gate.says
