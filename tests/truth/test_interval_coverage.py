"""Intervals hold the truth as often as they say; the long study is pipelines/experiments/coverage.py."""

import numpy as np
import pytest

from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.bounds import confidence_sequence, empirical_bernstein
from recsys.evaluation.ope.clustered import (
    bootstrap_intervals,
    clustered_interval,
    clustered_intervals,
    simultaneous_intervals,
)
from recsys.evaluation.ope.estimators import doubly_robust, ips, snips
from recsys.evaluation.ope.likelihood import likelihood_interval
from tests.truth.bandits import bandit

LOGS = 400
SLACK = 3.0 * np.sqrt(0.95 * 0.05 / LOGS)  # of a share of covered logs at nominal 95 %


def test_a_constant_reward_leaves_self_normalised_estimates_without_doubt() -> None:
    world = bandit(1.0)
    rounds = world.log(1000, np.random.default_rng(0))
    sure = type(rounds)(np.ones(1000), rounds.propensity, rounds.chosen, max_weight=world.max_weight)
    sums = sum_rounds(sure, {"ips": ips, "snips": snips})
    chance = np.random.default_rng(1)
    for interval in (
        clustered_intervals(sums)["snips"],
        bootstrap_intervals(sums, 500, chance)["snips"],
        likelihood_interval(sums, {"snips": 1.0}, reward_range=(1.0, 1.0)),
    ):
        assert (interval.low, interval.high) == pytest.approx((1.0, 1.0), abs=1e-9)
    plain = clustered_intervals(sums)["ips"]
    assert plain.high - plain.low > 0.05


@pytest.mark.parametrize("apart", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("known", [True, False])
def test_likelihood_intervals_cover_where_large_sample_ones_do_not(apart: float, known: bool) -> None:
    world = bandit(apart)
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(LOGS):
        rounds = world.log(1000, generator, known_weight=known)
        got = likelihood_interval(
            sum_rounds(rounds, {"snips": snips}), {"snips": 1.0}, reward_range=(0.0, 1.0)
        )
        covered += got.low <= world.truth <= got.high
    assert covered / LOGS >= 0.95 - SLACK


def test_clustered_rewards_need_clusters() -> None:
    """Twenty rounds of a user share a mood: who takes them for independent is far too sure."""
    world = bandit(0.5, rate=0.3)
    generator = np.random.default_rng(8)
    covered, naive = 0, 0
    for _ in range(LOGS):
        rounds = world.log(4000, generator, per_cluster=20)
        mood = np.repeat(generator.normal(0.0, 0.3, 200), 20)
        moody = type(rounds)(rounds.reward + mood, rounds.propensity, rounds.chosen, cluster=rounds.cluster)
        alone = type(rounds)(moody.reward, rounds.propensity, rounds.chosen)
        for kind, log in enumerate((moody, alone)):
            got = clustered_interval(sum_rounds(log, {"snips": snips}), {"snips": 1.0})
            inside = got.low <= world.truth <= got.high
            covered, naive = covered + (inside and not kind), naive + (inside and bool(kind))
    assert covered / LOGS >= 0.95 - SLACK
    assert naive / LOGS < 0.85


@pytest.mark.parametrize("column", ["dr", "snips"])
def test_paired_differences_cover_and_are_narrower_than_two_intervals(column: str) -> None:
    world, other = bandit(0.6, rate=0.3), bandit(0.9, rate=0.3)
    generator = np.random.default_rng(9)
    covered, paired, apart = 0, 0.0, 0.0
    other_truth = float((other.evaluation * world.mean).sum(axis=1).mean())
    for _ in range(LOGS):
        state = generator.bit_generator.state
        one = world.log(1500, generator, world.mean)
        generator.bit_generator.state = state
        two = type(world)(world.mean, world.behaviour, other.evaluation).log(1500, generator, world.mean)
        sums = sum_rounds({"a": one, "b": two}, {"dr": doubly_robust, "snips": snips})
        got = likelihood_interval(sums, {f"a/{column}": 1.0, f"b/{column}": -1.0}, reward_range=(0.0, 1.0))
        covered += got.low <= world.truth - other_truth <= got.high
        paired += got.high - got.low
        each = [likelihood_interval(sums, {f"{p}/{column}": 1.0}, reward_range=(0.0, 1.0)) for p in "ab"]
        apart += float(np.hypot(*[i.high - i.low for i in each]))
    assert covered / LOGS >= 0.95 - SLACK
    assert paired < apart


def test_the_difference_to_the_logging_policy_covers() -> None:
    world = bandit(0.6, rate=0.3)
    generator = np.random.default_rng(10)
    covered = 0
    for _ in range(LOGS):
        sums = sum_rounds(world.log(1000, generator), {"snips": snips})
        got = likelihood_interval(sums, {"snips": 1.0, "logging": -1.0}, reward_range=(0.0, 1.0))
        covered += got.low <= world.truth - world.logged_truth <= got.high
    assert covered / LOGS >= 0.95 - SLACK


def test_empirical_bernstein_and_confidence_sequences_always_hold() -> None:
    world = bandit(1.0, rate=0.3)
    generator = np.random.default_rng(11)
    inside, ever = 0, 0
    for _ in range(150):
        rounds = world.log(1500, generator)
        bound = empirical_bernstein(rounds.weighted_reward, 0.0, world.max_weight)
        inside += bound.low <= world.truth <= bound.high
        line = confidence_sequence(rounds.weight, rounds.reward)
        ever += bool(((line.low <= world.truth) & (world.truth <= line.high)).all())
    assert inside >= 143
    assert ever >= 143  # at every one of 1 500 readings
    assert line.high[-1] - line.low[-1] < 0.5


def test_simultaneous_intervals_hold_for_all_cells_at_once() -> None:
    generator = np.random.default_rng(12)
    all_of_them, one_by_one = 0, 0
    for _ in range(LOGS):
        values = generator.normal(size=(300, 8))
        mean = values.mean(axis=0)
        low, high = simultaneous_intervals(mean, (values - mean) / 300, 0.95, generator, 500)
        all_of_them += bool(((low <= 0) & (high >= 0)).all())
        half = 1.96 * values.std(axis=0) / np.sqrt(300)
        one_by_one += bool((np.abs(mean) <= half).all())
    assert all_of_them / LOGS >= 0.95 - SLACK
    assert one_by_one / LOGS < 0.75


def test_the_bootstrap_agrees_with_the_sandwich_where_both_are_right() -> None:
    world = bandit(0.5, rate=0.3)
    rounds = world.log(20_000, np.random.default_rng(13), world.mean)
    sums = sum_rounds(rounds, {"ips": ips, "snips": snips, "dr": doubly_robust})
    drawn = bootstrap_intervals(sums, 2000, np.random.default_rng(14))
    for name, exact in clustered_intervals(sums).items():
        assert drawn[name].low == pytest.approx(exact.low, abs=0.1 * (exact.high - exact.low))
        assert drawn[name].high == pytest.approx(exact.high, abs=0.1 * (exact.high - exact.low))


@pytest.mark.parametrize("per_cluster", [1, 4])
def test_how_rarely_something_was_shown_does_not_widen_a_difference(per_cluster: int) -> None:
    """A missed weight of 1e12 says what one of 1e4 says: in floating point too, whose squares would not cancel."""
    world = bandit(0.8)
    rounds = world.log(600, np.random.default_rng(0), world.mean, per_cluster=per_cluster)
    sums = sum_rounds(rounds, {"dr": doubly_robust, "snips": snips})
    for column in ("dr", "snips"):
        columns = {column: 1.0, "logging": -1.0}
        near, far = (likelihood_interval(sums, columns, max_weight=most) for most in (1e4, 1e12))
        assert far.low == pytest.approx(near.low, abs=1e-3 * (near.high - near.low))
        assert far.high == pytest.approx(near.high, abs=1e-3 * (near.high - near.low))
