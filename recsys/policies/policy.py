"""What every ranking policy of the comparison shares: fit on a log, then score the catalogue for histories.

A policy knows a user only through the history it is handed, so cold and warm users are the same to it, and
the curve over the number of support events is the curve over longer and longer histories.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import History
from recsys.types import FloatArray, LongArray

Arrays = Mapping[str, npt.NDArray[Any]]  # what a fitted policy keeps, by name


class ScoringPolicy(Protocol):
    """Ranks the whole catalogue for users given by what they did so far."""

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Learn from the training events of some histories; what is learnt ends in an underscore."""
        ...

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return a score of each item for each user, (user, item), the same for the same histories."""
        ...


class KeptPolicy(Protocol):
    """A fitted policy that can be put away and served: frozen options and arrays are all there is to it."""

    @property
    def options(self) -> Any:
        """What distinguishes it from others of its kind, a frozen dataclass."""
        ...

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return a score of each item for each user, (user, item), the same for the same histories."""
        ...

    def arrays(self) -> Arrays:
        """Return what was learnt."""
        ...

    def restore(self, arrays: Arrays) -> Self:
        """Take back what was learnt; the options are those it was learnt with."""
        ...


def pack(name: str, matrix: sparse.csr_matrix) -> dict[str, npt.NDArray[Any]]:
    """Return a sparse matrix as arrays whose names begin with `name`."""
    shape = np.array(matrix.shape, np.int64)
    indices, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": indices,
        f"{name}.indptr": indptr,
        f"{name}.shape": shape,
    }


def unpack(name: str, arrays: Arrays) -> sparse.csr_matrix:
    """Return the sparse matrix that `pack` took apart; raises ValueError if the parts do not make one."""
    parts = (arrays[f"{name}.data"], arrays[f"{name}.indices"], arrays[f"{name}.indptr"])
    matrix = sparse.csr_matrix(parts, shape=tuple(arrays[f"{name}.shape"].tolist()))
    matrix.check_format(full_check=True)  # an index beyond the shape would read foreign memory
    return matrix


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
