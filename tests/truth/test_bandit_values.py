"""Estimators against values known in closed form: what is unbiased is, what is not is off where it must be."""

import numpy as np
import pytest

from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.estimators import (
    ClippedIPS,
    Estimator,
    OptimisticShrinkageDR,
    SwitchDR,
    direct_method,
    doubly_robust,
    ips,
    on_policy,
    rejection_sample,
    replay,
    self_normalised_dr,
    snips,
)
from recsys.evaluation.ope.rounds import Rounds
from tests.truth.bandits import Bandit, bandit, softmax

LOGS = 300
ROUNDS = 400


def estimates(world: Bandit, estimator: Estimator, model: np.ndarray | None, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.array(
        [
            sum_rounds(world.log(ROUNDS, generator, model), {"it": estimator}).estimates()[1]
            for _ in range(LOGS)
        ]
    )


def off(values: np.ndarray, truth: float) -> float:
    """Bias in standard errors of the mean over logs."""
    return float((values.mean() - truth) / (values.std(ddof=1) / np.sqrt(len(values))))


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("actions", [2, 20])
@pytest.mark.parametrize("apart", [0.3, 1.0])
@pytest.mark.parametrize("estimator", [ips, doubly_robust, OptimisticShrinkageDR(np.inf), SwitchDR(np.inf)])
def test_unbiased_estimators_are_right_on_average_whatever_the_model_says(
    estimator: Estimator, apart: float, actions: int, noise: float
) -> None:
    world = bandit(apart, actions, noise=noise, rate=0.3)
    wrong = np.random.default_rng(1).uniform(0, 1, world.mean.shape)
    assert abs(off(estimates(world, estimator, wrong), world.truth)) < 4.0


@pytest.mark.parametrize("estimator", [snips, self_normalised_dr])
def test_self_normalised_estimators_are_nearly_unbiased(estimator: Estimator) -> None:
    world = bandit(1.0, rate=0.3)
    values = estimates(world, estimator, np.full(world.mean.shape, 0.7))
    assert values.mean() == pytest.approx(world.truth, rel=0.05)


def test_the_true_model_makes_dr_sharper_than_ips_and_dm_exact() -> None:
    world = bandit(1.0, rate=0.3, noise=0.05)
    assert estimates(world, doubly_robust, world.mean).std() < 0.3 * estimates(world, ips, None).std()
    assert abs(off(estimates(world, direct_method, world.mean), world.truth)) < 4.0


def test_a_wrong_model_misleads_dm_alone() -> None:
    world = bandit(0.5, rate=0.3)
    flattering = world.mean + 0.2
    assert estimates(world, direct_method, flattering).mean() == pytest.approx(world.truth + 0.2, abs=0.005)
    assert abs(off(estimates(world, doubly_robust, flattering), world.truth)) < 4.0


@pytest.mark.parametrize("sharp", [0.0, 3.0, 50.0])
def test_replay_of_evenly_logged_rounds_is_right_for_policies_that_draw_too(sharp: float) -> None:
    made = bandit(0.0, 10, rate=0.4)
    even = np.full(made.mean.shape, 0.1)
    preference = np.random.default_rng(5).normal(size=even.shape)
    world = Bandit(made.mean, even, softmax(sharp * preference))
    values = estimates(world, replay, None)
    assert world.truth > 0.2
    assert values.mean() == pytest.approx(world.truth, abs=4.0 * values.std() / np.sqrt(LOGS) + 0.003)


def test_clipping_and_switching_trade_bias_for_variance_in_the_known_direction() -> None:
    world = bandit(1.5, rate=0.3)
    spread = [estimates(world, ClippedIPS(limit), None).std() for limit in (1.0, 3.0, np.inf)]
    assert spread == sorted(spread)
    means = [estimates(world, ClippedIPS(limit), None).mean() for limit in (1.0, 3.0, np.inf)]
    assert means == sorted(means)
    assert means[0] < 0.8 * world.truth


def test_shrinkage_ends_at_dm_and_at_dr() -> None:
    world = bandit(1.0)
    rounds = world.log(500, np.random.default_rng(0), np.full(world.mean.shape, 0.1))
    wanted = sum_rounds(rounds, {"dm": direct_method, "dr": doubly_robust}).estimates()
    for family in (OptimisticShrinkageDR, SwitchDR):
        ends = sum_rounds(rounds, {"none": family(0.0), "all": family(np.inf)}).estimates()
        np.testing.assert_allclose(ends, wanted, rtol=1e-12)


def test_the_logging_policy_evaluated_on_its_own_log_returns_its_own_mean() -> None:
    world = bandit(0.0)
    rounds = world.log(1000, np.random.default_rng(2), world.mean)
    sums = sum_rounds(rounds, {"ips": ips, "snips": snips})
    np.testing.assert_allclose(sums.estimates(), rounds.reward.mean(), rtol=1e-9)
    assert sums.weights[0].effective == pytest.approx(1000)


def test_rejected_rounds_leave_a_log_of_the_evaluated_policy() -> None:
    world = bandit(1.0, rate=0.4)
    generator = np.random.default_rng(3)
    rounds = world.log(200_000, generator)
    kept = rejection_sample(rounds.weight, world.max_weight, generator)
    assert kept.mean() == pytest.approx(1.0 / world.max_weight, rel=0.05)
    error = rounds.reward[kept].std() / np.sqrt(kept.sum())
    assert abs(rounds.reward[kept].mean() - world.truth) < 4.0 * error
    with pytest.raises(ValueError, match="raise it"):
        rejection_sample(rounds.weight, 0.5 * world.max_weight, generator)


def test_values_of_hand_made_rounds() -> None:
    rounds = Rounds(
        reward=np.array([1.0, 0.0, 2.0]),
        propensity=np.array([0.5, 0.25, 0.2]),
        chosen=np.array([0.25, 0.5, 0.1]),
        q_logged=np.array([0.5, 0.5, 1.0]),
        value=np.array([0.6, 0.4, 0.8]),
    )
    got = sum_rounds(
        rounds,
        {
            "ips": ips, "snips": snips, "replay": replay, "dm": direct_method, "dr": doubly_robust,
            "sndr": self_normalised_dr, "clipped": ClippedIPS(1.0), "switch": SwitchDR(1.0),
            "dros": OptimisticShrinkageDR(2.0), "mean": on_policy,
        },
    )  # fmt: skip
    w = np.array([0.5, 2.0, 0.5])
    gap = np.array([0.5, -0.5, 1.0])
    shrunk = 2.0 * w / (w**2 + 2.0)
    wanted = {
        "logging": 1.0, "ips": 1.5 / 3, "snips": 1.5 / 3.0, "replay": 0.45 / 0.85, "dm": 0.6,
        "dr": 0.6 + (0.25 - 1.0 + 0.5) / 3, "sndr": 0.6 + (0.25 - 1.0 + 0.5) / 3.0, "clipped": 1.5 / 3,
        "switch": 0.6 + 0.75 / 3, "dros": 0.6 + float(shrunk @ gap) / 3, "mean": 1.0,
    }  # fmt: skip
    assert dict(zip(got.names, got.estimates(), strict=True)) == pytest.approx(wanted)
