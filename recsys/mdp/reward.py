"""What an event is worth to the learner."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.config import RewardConfig
from recsys.types import FloatArray, RealArray

_LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True)
class RewardTable:
    """r = base[type] + per_log_value[type] · sign(v) · log(1 + |v|), by the codes of event types."""

    base: RealArray  # (type,)
    slope: RealArray  # (type,)

    @staticmethod
    def of(config: RewardConfig, event_types: Sequence[str]) -> "RewardTable":
        """Return the table whose codes index `event_types`."""
        return RewardTable(
            np.array([config.base.get(name, 0.0) for name in event_types], np.float64),
            np.array([config.per_log_value.get(name, 0.0) for name in event_types], np.float64),
        )

    def rewards(self, codes: npt.NDArray[np.integer], values: npt.NDArray[np.floating]) -> FloatArray:
        """Return r, (event,); a value of NaN stands for none and adds nothing."""
        present = np.asarray(values, np.float64)
        present = np.where(np.isnan(present), 0.0, present)
        logs = np.sign(present) * np.log1p(np.minimum(np.abs(present), _LARGEST))
        total: FloatArray = (self.base[codes] + self.slope[codes] * logs).astype(np.float32)
        return total


def rewards(
    config: RewardConfig,
    event_types: Sequence[str],
    codes: npt.NDArray[np.integer],
    values: npt.NDArray[np.floating],
) -> FloatArray:
    """Return r of events, (event,), as RewardTable has it."""
    return RewardTable.of(config, event_types).rewards(codes, values)


def rewarded_types(config: RewardConfig) -> tuple[str, ...]:
    """Return the event types that have a reward, in the order of the configuration."""
    return tuple(dict.fromkeys([*config.base, *config.per_log_value]))
