"""What every ranking policy of the comparison shares: fit on a log, then score the catalogue for histories.

A policy knows a user only through the history it is handed, so cold and warm users are the same to it, and
the curve over the number of support events is the curve over longer and longer histories.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from scipy import sparse

from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import History
from recsys.types import FloatArray, LongArray


class ScoringPolicy(Protocol):
    """Ranks the whole catalogue for users given by what they did so far."""

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Learn from the training events of some histories; what is learnt ends in an underscore."""
        ...

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return a score of each item for each user, (user, item), the same for the same histories."""
        ...


def support_matrix(histories: Sequence[History], items: int) -> sparse.csr_matrix:
    """Return the binary (user, item) matrix of positively rewarded events."""
    lengths = [len(history) for history in histories]
    user = np.repeat(np.arange(len(histories)), lengths)
    item = np.concatenate([history.item for history in histories]) if histories else np.empty(0, np.int32)
    reward = (
        np.concatenate([history.reward for history in histories]) if histories else np.empty(0, np.float32)
    )
    kept = reward > 0
    matrix = sparse.csr_matrix(
        (np.ones(int(kept.sum()), np.float32), (user[kept], item[kept])), shape=(len(histories), items)
    )
    matrix.data[:] = 1.0  # the constructor has added up repeats
    return matrix
