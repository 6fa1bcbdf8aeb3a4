"""Implicit ALS (Hu, Koren & Volinsky 2008), in the parametrisation of Rendle et al. 2022, with exact fold-in.

    L = Σ_{(u,i) ∈ S} (1 − x_uᵀy_i)² + α₀ Σ_{u,i} (x_uᵀy_i)² + Σ_u λ_u |x_u|² + Σ_i λ_i |y_i|²
    λ_u = λ (|S_u| + α₀ |I|)^ν,   λ_i = λ (|S_i| + α₀ |U|)^ν

α₀ is 1 / α of Hu et al. (their confidence is 1 + α on S and 1 elsewhere); ν = 0 is their regularisation. Given the
items, a user is the solution of d normal equations, whether seen in training or not:

    ( Σ_{i ∈ S_u} y_i y_iᵀ + α₀ YᵀY + λ_u I ) x_u = Σ_{i ∈ S_u} y_i
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from recsys.logs.interactions import interaction_matrix
from recsys.logs.prepared import PreparedLog, identified
from recsys.mdp.state import History
from recsys.policies.policy import Arrays, support_matrix
from recsys.policies.popularity import PLAIN, Popularity, PopularityOptions, behind
from recsys.randomness import numpy_generator
from recsys.types import FloatArray, LongArray

BLOCK_ENTRIES = 2**23  # gathered factors and normal matrices held at once


@dataclass(frozen=True)
class AlsOptions:
    """Shape and regularisation of the factorisation."""

    features: int = 64  # d
    unobserved: float = 0.1  # α₀
    l2: float = 0.003  # λ
    exponent: float = 1.0  # ν
    sweeps: int = 12
    seed: int = 0
    identified_only: bool = True  # leave anonymous sessions out
    popularity: PopularityOptions = PLAIN  # ranks for empty histories


class Als:
    """Users and items as factors; a user's are solved for from the history, known or not."""

    factors_: FloatArray  # Y, (item, feature)
    popularity_: FloatArray  # (item,)

    def __init__(self, options: AlsOptions | None = None) -> None:
        self.options = options or AlsOptions()

    def fit(self, log: PreparedLog, histories: LongArray) -> Self:
        """Alternate between users and items over the positively rewarded training events."""
        options = self.options
        chosen = identified(log, histories) if options.identified_only else histories
        popularity = Popularity(options.popularity).fit(log, histories).popularity_
        return self.fit_matrix(interaction_matrix(log, chosen), popularity)

    def fit_matrix(self, matrix: sparse.csr_matrix, popularity: FloatArray) -> Self:
        """Learn from a binary (history, item) matrix and a popularity that several fits share."""
        options = self.options
        self.popularity_ = popularity
        chance = numpy_generator(options.seed, "als")
        scale = 0.1 / np.sqrt(options.features)
        factors = (chance.normal(size=(matrix.shape[1], options.features)) * scale).astype(np.float32)
        by_item = matrix.T.tocsr()
        for _ in range(options.sweeps):
            users = solve_rows(matrix, factors, options)
            factors = solve_rows(by_item, users, options)
        self.factors_ = factors
        return self

    def fold_in(self, histories: Sequence[History]) -> FloatArray:
        """Return the factors of users from what they took, (user, feature)."""
        return solve_rows(support_matrix(histories, len(self.factors_)), self.factors_, self.options)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        """Return x_uᵀy_i, (user, item); by popularity without support."""
        users = self.fold_in(histories)
        spoken = np.broadcast_to(np.any(users != 0, axis=1)[:, None], (len(users), len(self.factors_)))
        return behind(users @ self.factors_.T, spoken, self.popularity_)

    def arrays(self) -> Arrays:
        """Return what is kept: item factors and the popularity behind them."""
        return {"popularity": self.popularity_, "factors": self.factors_}

    def restore(self, arrays: Arrays) -> Self:
        """Take both back."""
        self.popularity_, self.factors_ = arrays["popularity"], arrays["factors"]
        return self


def solve_rows(matrix: sparse.csr_matrix, factors: FloatArray, options: AlsOptions) -> FloatArray:
    """Return the solution of every row's normal equations given the other side's factors, (row, feature).

    Rows of similar length are solved together, in blocks that fit in memory; a row without entries is zero.
    """
    columns, width = factors.shape
    shared = options.unobserved * (factors.T @ factors)
    length = np.diff(matrix.indptr)
    padded = np.concatenate([factors, np.zeros((1, width), np.float32)])
    solved = np.zeros((matrix.shape[0], width), np.float32)
    order = np.argsort(-length, kind="stable")
    order = order[: int((length > 0).sum())]
    start = 0
    while start < len(order):
        longest = int(length[order[start]])
        rows = order[start : start + max(1, BLOCK_ENTRIES // (width * (longest + width)))]
        place = np.arange(longest)[None, :]
        present = place < length[rows][:, None]
        entry = np.where(present, matrix.indptr[rows][:, None] + place, 0)
        taken = padded[np.where(present, matrix.indices[entry], columns)]  # (row, entry, feature)
        ridge = options.l2 * (length[rows] + options.unobserved * columns) ** options.exponent
        normal = taken.transpose(0, 2, 1) @ taken + shared
        normal += ridge[:, None, None].astype(np.float32) * np.eye(width, dtype=np.float32)
        solved[rows] = np.linalg.solve(normal, taken.sum(axis=1)[:, :, None])[:, :, 0]
        start += len(rows)
    return solved
