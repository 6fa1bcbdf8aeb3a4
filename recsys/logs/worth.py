"""What feedback is worth in a log: which type says most that a user liked an item."""

import numpy as np

from recsys.logs.prepared import PreparedLog

_ROWS = 1 << 20  # read at once


def best_feedback(log: PreparedLog) -> tuple[int, float]:
    """Return the code of the event type whose mean reward is highest, and the mean of its positive rewards.

    Where a reward hangs on a value (a rating, a price) this is what a liked item was worth on average, which the
    type's base alone does not say. Without any positive reward the mean reward stands in.
    """
    types = len(log.info.event_types)
    count, liked = np.zeros(types), np.zeros(types)
    total, gained = np.zeros(types), np.zeros(types)
    for first in range(0, len(log.item), _ROWS):
        code = np.asarray(log.event_type[first : first + _ROWS])
        reward = np.asarray(log.reward[first : first + _ROWS], np.float64)
        positive = reward > 0
        count += np.bincount(code, minlength=types)
        total += np.bincount(code, reward, minlength=types)
        liked += np.bincount(code[positive], minlength=types)
        gained += np.bincount(code[positive], reward[positive], minlength=types)
    mean = np.divide(total, count, out=np.full(types, -np.inf), where=count > 0)
    best = int(mean.argmax())
    return best, float(gained[best] / liked[best] if liked[best] else mean[best])
