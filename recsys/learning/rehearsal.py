"""What a fine-tuning epoch learns from: every window with something new, and a stated share of windows without.

Replay of old data is what keeps a network from forgetting it (rehearsal: Robins 1995). Windows with new events begin in
the old ones, so that states are those which live users have.
"""

import numpy as np

from recsys.logs.prepared import PreparedLog
from recsys.mdp.windows import Windows, cut_windows
from recsys.types import LongArray


def rehearsal_windows(
    log: PreparedLog,
    histories: LongArray,
    since_s: int,
    replay_share: float,
    max_events: int,
    generator: np.random.Generator,
    min_events: int = 2,
) -> tuple[Windows, int]:
    """Return (windows of one epoch, how many of them are replayed).

    New are the windows that end at or after `since_s`, seconds; old ones are drawn so that they make up `replay_share`
    of all, or as many as there are. All have `min_events` at least.
    """
    windows = cut_windows(log, histories, max_events, min_events, generator)
    is_new = np.asarray(log.timestamp[windows.end - 1]) >= since_s
    new, old = np.flatnonzero(is_new), np.flatnonzero(~is_new)
    wanted = min(round(len(new) * replay_share / (1.0 - replay_share)), len(old))
    replayed = generator.permutation(old)[:wanted]
    return windows.take(np.concatenate([new, replayed])), wanted
