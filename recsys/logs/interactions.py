"""Which training events histories have, and the matrix of what they took: what every counting method starts from."""

import numpy as np
from scipy import sparse

from recsys.logs.prepared import PreparedLog
from recsys.types import LongArray


def training_events(log: PreparedLog, histories: LongArray) -> tuple[LongArray, LongArray]:
    """Return (row of `histories`, event) of every training event, both (event,)."""
    length = log.history_train_end[histories]
    row = np.repeat(np.arange(len(histories)), length)
    event = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    return row, event + np.repeat(log.history_offsets[histories], length)


def interaction_matrix(log: PreparedLog, histories: LongArray) -> sparse.csr_matrix:
    """Return the binary (history, item) matrix of positively rewarded training events."""
    row, event = training_events(log, histories)
    kept = np.asarray(log.reward[event]) > 0
    shape = (len(histories), len(log.content))
    matrix = sparse.csr_matrix(
        (np.ones(int(kept.sum()), np.float32), (row[kept], np.asarray(log.item[event])[kept])), shape=shape
    )
    matrix.data[:] = 1.0
    return matrix
