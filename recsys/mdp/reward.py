"""What an event is worth to the learner."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.config import RewardConfig
from recsys.types import FloatArray


def rewards(
    config: RewardConfig,
    event_types: Sequence[str],
    codes: npt.NDArray[np.integer],
    values: npt.NDArray[np.floating],
) -> FloatArray:
    """Return r = base[type] + per_log_value[type] · sign(v) · log(1 + |v|), shape (event,).

    `codes` index `event_types`; a value of NaN stands for none and adds nothing.
    """
    base = np.array([config.base.get(name, 0.0) for name in event_types], dtype=np.float64)
    slope = np.array([config.per_log_value.get(name, 0.0) for name in event_types], dtype=np.float64)
    present = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    logs = np.sign(present) * np.log1p(np.abs(present))
    total: FloatArray = (base[codes] + slope[codes] * logs).astype(np.float32)
    return total


def rewarded_types(config: RewardConfig) -> tuple[str, ...]:
    """Return the event types that have a reward, in the order of the configuration."""
    return tuple(dict.fromkeys([*config.base, *config.per_log_value]))
