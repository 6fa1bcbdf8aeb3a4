"""Who trains and who is cold: by a cut in time, or by a draw of users.

All of it follows from when each history began, how many of its events lie before the cut, and whether it has
a user.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC

import numpy as np

from recsys.config import SplitConfig
from recsys.datasets.parsing import utc_text
from recsys.errors import UserError
from recsys.logs.hashing import HashArray, salted
from recsys.logs.prepared import Role
from recsys.types import BoolArray, ByteArray, LongArray

TimeChunks = Callable[[], Iterator[LongArray]]  # the timestamps of all events in seconds, piece by piece


@dataclass(frozen=True)
class Split:
    """Roles of histories and the cuts between them."""

    role: ByteArray  # (history,)
    test_from: int | None  # seconds since 1970
    validation_from: int | None

    def train_end(self, before_cut: LongArray) -> LongArray:
        """Return how many events of each history may be trained on, from how many lie before the cut."""
        return np.where(self.role == Role.TRAIN, before_cut, 0).astype(np.int64)


def cut_time(config: SplitConfig, chunks: TimeChunks, events: int, first: int, last: int) -> int:
    """Return the second from which on events are test events.

    Raises UserError if a configured cut leaves nothing on one of its sides.
    """
    if config.test_from is not None:
        moment = config.test_from if config.test_from.tzinfo else config.test_from.replace(tzinfo=UTC)
        cut = int(np.floor(moment.timestamp()))
        if not first < cut <= last:
            raise UserError(
                f"test_from is {moment.isoformat()}, must lie inside the log "
                f"({utc_text(first)} to {utc_text(last)}); "
                "set [prepare.split] test_from between the two, or leave it out to cut by test_share"
            )
        return cut
    wanted = config.test_share * events
    low, high = first, last + 2  # the latest second with at least the wanted number of events at or after it
    while high - low > 1:
        middle = (low + high) // 2
        after = sum(int((chunk >= middle).sum()) for chunk in chunks())
        if after >= wanted:
            low = middle
        else:
            high = middle
    return max(low, first + 1)


def split_by_time(config: SplitConfig, cut: int, began: LongArray, anonymous: BoolArray) -> Split:
    """Return the split of histories that began at the given seconds, shape (history,)."""
    role = np.full(len(began), Role.TRAIN, dtype=np.int8)
    known = ~anonymous
    role[known & (began >= cut)] = Role.COLD_TEST
    early = np.sort(began[known & (began < cut)])
    count = round(config.validation_share * len(early))
    if count == 0:
        return Split(role, cut, None)
    window = int(early[len(early) - count])
    role[known & (began >= window) & (began < cut)] = Role.COLD_VALIDATION
    return Split(role, cut, window)


def split_by_user(config: SplitConfig, hashes: HashArray, anonymous: BoolArray, seed: int) -> Split:
    """Return a split that draws users by a seeded hash, shape (history,)."""
    draw = salted(hashes, seed) / 2.0**64
    role = np.full(len(hashes), Role.TRAIN, dtype=np.int8)
    validation_end = config.test_share + config.validation_share * (1.0 - config.test_share)
    role[~anonymous & (draw < validation_end)] = Role.COLD_VALIDATION
    role[~anonymous & (draw < config.test_share)] = Role.COLD_TEST
    return Split(role, None, None)
