"""The bootstrap covers what it claims to cover."""

import numpy as np
import pytest

from recsys.evaluation.intervals import bootstrap_mean


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        interval = bootstrap_mean(generator.normal(3.0, 2.0, 60).astype(np.float32), 400, 0.95, generator)
        covered += interval.low <= 3.0 <= interval.high
    assert covered / 400 == pytest.approx(0.945, abs=0.03)


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(0, 1, 2000).astype(np.float32)
    interval = bootstrap_mean(values, 4000, 0.95, np.random.default_rng(2))
    assert interval.mean == pytest.approx(float(values.mean()), abs=1e-6)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.05)


def test_equal_values_leave_no_doubt_and_no_values_say_nothing() -> None:
    chance = np.random.default_rng(0)
    sure = bootstrap_mean(np.full(9, 0.25, np.float32), 100, 0.95, chance)
    assert (sure.mean, sure.low, sure.high) == (0.25, 0.25, 0.25)
    nothing = bootstrap_mean(np.empty(0, np.float32), 100, 0.95, chance)
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_the_same_generator_gives_the_same_interval() -> None:
    values = np.arange(20, dtype=np.float32)
    one, other = (bootstrap_mean(values, 200, 0.9, np.random.default_rng(4)) for _ in range(2))
    assert one == other
