"""Co-occurrence factors of items: what starts id embeddings and what the adaptation head acts on.

With X the (history, item) matrix of positively rewarded events, X' = D_h^{−p} X D_i^{−q} and its truncated singular
value decomposition X' ≈ U S Vᵀ, the factors are V S^{1/2}. Inner products of factors then are a smoothed, degree-
normalised item similarity: with a small user power and the square root of the spectrum they rank better than the
cosine of item-kNN (docs/experiments.md).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from recsys.config import FactorsConfig
from recsys.logs.interactions import interaction_matrix
from recsys.logs.prepared import PreparedLog
from recsys.types import FloatArray, LongArray


@dataclass(frozen=True)
class ItemStatistics:
    """What training histories say of each item without a network; first axis item.

    On disk: `statistics.npz`, read without pickle.
    """

    factors: FloatArray  # (item, feature), zero rows for items without history
    popularity: FloatArray  # (item,) histories that contain the item

    def save(self, path: Path) -> None:
        """Write both arrays."""
        np.savez(path, factors=self.factors, popularity=self.popularity)

    @staticmethod
    def load(path: Path) -> "ItemStatistics":
        """Read both arrays."""
        with np.load(path) as arrays:
            return ItemStatistics(factors=arrays["factors"], popularity=arrays["popularity"])


def cooccurrence_factors(
    matrix: sparse.csr_matrix,
    config: FactorsConfig,
    seed: int,
    prior: FloatArray | None = None,
) -> FloatArray:
    """Return the factors of an interaction matrix, (item, feature); features beyond its rank are zeros.

    `prior`, (row, item), are rows that stand beside the histories' own: what goes together elsewhere. Their squares sum
    to the number of histories that they count as, of what the squares of a history's row sum to on average.
    """
    popularity = np.asarray(matrix.sum(axis=0), np.float32).ravel()
    degree = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    factors = np.zeros((matrix.shape[1], config.features), np.float32)
    rows = matrix.shape[0] + (0 if prior is None else len(prior))
    rank = min(config.features, min(rows, matrix.shape[1]) - 1)
    seen = popularity > 0 if prior is None else (popularity > 0) | (prior != 0).any(axis=0)
    if rank <= 0 or not seen.any():  # one history, one item or nothing bought: nothing goes together
        return factors
    item_degree = np.maximum(popularity + config.smoothing, 1.0)
    scaled = (
        sparse.diags(degree**-config.history_power) @ matrix @ sparse.diags(item_degree**-config.item_power)
    )
    if prior is not None:
        average = scaled.power(2).sum() / max(matrix.shape[0], 1)
        beside = prior * np.sqrt(average if average > 0 else 1.0)
        scaled = sparse.vstack([scaled, sparse.csr_matrix(beside.astype(np.float32))]).tocsr()
    _, singular, right = randomized_svd(scaled, rank, n_iter=6, random_state=seed % 2**32)
    factors[:, :rank] = right.T * np.sqrt(singular)
    scale = np.sqrt(np.mean(np.sum(factors[seen] ** 2, axis=1)))
    factors[seen] /= max(float(scale), 1e-12)
    return factors


def rotate_onto(factors: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the factors turned by the orthogonal map that brings them nearest the reference (Procrustes).

    Inner products stay as they are, so the kernel is that of `factors`, in the coordinates of `reference`.
    """
    left, _, right = np.linalg.svd(factors.T.astype(np.float64) @ reference.astype(np.float64))
    turned: FloatArray = (factors @ (left @ right)).astype(np.float32)
    return turned


def item_statistics(
    log: PreparedLog,
    histories: LongArray,
    config: FactorsConfig,
    seed: int,
    prior: FloatArray | None = None,  # (row, item), as in `cooccurrence_factors`
) -> ItemStatistics:
    """Return the factors and the popularity that some training histories give."""
    matrix = interaction_matrix(log, histories)
    return ItemStatistics(
        factors=cooccurrence_factors(matrix, config, seed, prior),
        popularity=np.asarray(matrix.sum(axis=0), np.float32).ravel(),
    )
