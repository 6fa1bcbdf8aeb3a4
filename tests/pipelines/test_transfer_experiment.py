"""What the experiment of transfer says of several seeds at once."""

import numpy as np
import pytest

from pipelines.experiments.transfer import pooled


def test_a_user_of_several_seeds_is_one_user() -> None:
    """Forty users gain .2 in one seed and lose .2 in the other: pooled they are level, and known to be."""
    users = [f"u{number}" for number in range(40)]
    gains, losses = [0.2] * 40, [-0.2] * 40
    found, count = pooled(
        [
            {"differences": gains, "user_ids": users},
            {"differences": losses, "user_ids": users[::-1]},
        ]
    )
    assert count == 40
    assert (found.mean, found.low, found.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_users_of_one_seed_each_count_alike() -> None:
    chance = np.random.default_rng(0)
    first, second = chance.normal(0.1, 0.05, 30), chance.normal(0.1, 0.05, 60)
    found, count = pooled(
        [
            {"differences": first.tolist(), "user_ids": [f"a{n}" for n in range(30)]},
            {"differences": second.tolist(), "user_ids": [f"b{n}" for n in range(60)]},
        ]
    )
    assert count == 90
    assert found.mean == pytest.approx(np.concatenate([first, second]).mean())
    assert 0.08 < found.low < found.mean < found.high < 0.12
