"""Age: what happened long ago says less of what comes next."""

import numpy as np

from recsys.logs.interactions import training_events
from recsys.logs.prepared import PreparedLog
from recsys.types import FloatArray, LongArray

SECONDS_PER_DAY = 86_400.0


def training_end(log: PreparedLog, histories: LongArray) -> int:
    """Return the time of the newest training event, in seconds; 0 without any."""
    return int(np.max(log.timestamp[training_events(log, histories)[1]], initial=0))


def age_weight(timestamp: LongArray, now: int, half_life_days: float | None) -> FloatArray:
    """Return ½^(age / half-life) of times in seconds, same shape; 1 without a half-life."""
    if half_life_days is None:
        return np.ones(np.shape(timestamp), np.float32)
    weight: FloatArray = np.exp2((np.asarray(timestamp) - now) / (SECONDS_PER_DAY * half_life_days))
    return weight.astype(np.float32)


def recent_popularity(log: PreparedLog, histories: LongArray, half_life_days: float | None) -> FloatArray:
    """Return rewarded training events of each item, weighed by age and scaled to their plain number, (item,)."""
    event = training_events(log, histories)[1]
    event = event[np.asarray(log.reward[event]) > 0]
    weight = age_weight(log.timestamp[event], training_end(log, histories), half_life_days)
    counted = np.bincount(log.item[event], weight, minlength=len(log.content))
    scaled: FloatArray = (counted * (len(event) / max(float(counted.sum()), 1e-12))).astype(np.float32)
    return scaled
