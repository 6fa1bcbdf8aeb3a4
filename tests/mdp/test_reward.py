"""Rewards held against hand-computed values."""

import numpy as np
import pytest

from recsys.config import RewardConfig
from recsys.mdp.reward import rewarded_types, rewards

CONFIG = RewardConfig(
    base={"click": 0.2, "purchase": 1.0, "cancellation": -1.0}, per_log_value={"purchase": 0.5, "rating": 1.0}
)
TYPES = rewarded_types(CONFIG)


def test_types_come_in_the_order_of_the_configuration_once():
    assert TYPES == ("click", "purchase", "cancellation", "rating")


@pytest.mark.parametrize(
    ("kind", "value", "reward"),
    [
        ("click", 9.0, 0.2),  # no slope
        ("purchase", np.nan, 1.0),  # no value
        ("purchase", 0.0, 1.0),
        ("purchase", np.e - 1, 1.5),
        ("purchase", -(np.e - 1), 0.5),  # a negative value counts against it
        ("cancellation", -5.0, -1.0),
        ("rating", 3.0, np.log(4.0)),  # no base
    ],
)
def test_a_reward_is_base_plus_slope_times_signed_log(kind, value, reward):
    result = rewards(CONFIG, TYPES, np.array([TYPES.index(kind)], dtype=np.int8), np.array([value]))
    assert result.dtype == np.float32
    assert result.tolist() == pytest.approx([reward], rel=1e-6)


def test_no_events_have_no_rewards():
    assert rewards(CONFIG, TYPES, np.array([], dtype=np.int8), np.array([])).shape == (0,)
