"""Co-occurrence factors of items: what starts id embeddings and what the adaptation head acts on.

With X the (history, item) matrix of positively rewarded events, X' = D_h^{−p} X D_i^{−q} and its truncated singular
value decomposition X' ≈ U S Vᵀ, the factors are V S^c. Inner products of factors then are a smoothed, degree-normalised
item similarity with its eigenvalues to the power c: with a small user power and c = 1/2 they rank better than the
cosine of item-kNN where histories are many (docs/experiments.md).

With a shrinkage λ the matrix that is factored is not X'ᵀX' but the similarity in which each pair's overlap is weighed
by o / (o + λ), so that few histories say little: V W^{c/2} of its largest eigenvalues W.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from recsys.config import FactorsConfig
from recsys.logs.interactions import interaction_matrix
from recsys.logs.overlap import shrunk_similarity
from recsys.logs.prepared import PreparedLog
from recsys.types import FloatArray, LongArray

PASSES = 6  # over the matrix that is factored
OVERSAMPLED = 10  # directions beyond those that are kept
MOST_PAIRS = 2**26  # of items whose similarity is held


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
    factors = np.zeros((matrix.shape[1], config.features), np.float32)
    rows = matrix.shape[0] + (0 if prior is None else len(prior))
    rank = min(config.features, min(rows, matrix.shape[1]) - 1)
    seen = popularity > 0 if prior is None else (popularity > 0) | (prior != 0).any(axis=0)
    if rank <= 0 or not seen.any():  # one history, one item or nothing bought: nothing goes together
        return factors
    if config.shrinkage:
        found = _of_shrunk_overlaps(matrix, config, rank, seed, prior)
    else:
        found = _of_scaled_histories(matrix, config, rank, seed, prior)
    factors[:, :rank] = found
    scale = np.sqrt(np.mean(np.sum(factors[seen] ** 2, axis=1)))
    factors[seen] /= max(float(scale), 1e-12)
    return factors


def _of_scaled_histories(
    matrix: sparse.csr_matrix, config: FactorsConfig, rank: int, seed: int, prior: FloatArray | None
) -> FloatArray:
    """Return V S^c of X', with the prior's rows below, (item, feature)."""
    degree = np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    popularity = np.asarray(matrix.sum(axis=0), np.float32).ravel()
    item_degree = np.maximum(popularity + config.smoothing, 1.0)
    scaled = (
        sparse.diags(degree**-config.history_power) @ matrix @ sparse.diags(item_degree**-config.item_power)
    )
    if prior is not None:
        beside = prior * _loudness(scaled.power(2).sum(), matrix.shape[0])
        scaled = sparse.vstack([scaled, sparse.csr_matrix(beside.astype(np.float32))]).tocsr()
    _, singular, right = randomized_svd(scaled, rank, n_iter=PASSES, random_state=seed % 2**32)
    return np.asarray(right.T * singular**config.spectrum_power, np.float32)


def _of_shrunk_overlaps(
    matrix: sparse.csr_matrix, config: FactorsConfig, rank: int, seed: int, prior: FloatArray | None
) -> FloatArray:
    """Return V W^{c/2} of the largest eigenvalues of the shrunk similarity plus PᵀP of the prior, (item, feature).

    By subspace iteration from random directions (Halko et al. 2011, algorithm 4.4): the similarity is symmetric but,
    shrunk, not positive; what is negative is left out.
    """
    similarity = shrunk_similarity(
        matrix, config.history_power, config.item_power, config.smoothing, config.shrinkage, MOST_PAIRS
    )
    items = similarity.shape[0]
    loudness = np.float32(_loudness(float(similarity.diagonal().sum()), matrix.shape[0]))
    beside = None if prior is None else prior.astype(np.float32) * loudness
    told = similarity.toarray() if items**2 <= MOST_PAIRS and similarity.nnz * 20 > items**2 else similarity

    def times(basis: FloatArray) -> FloatArray:
        product: FloatArray = told @ basis
        return product if beside is None else np.asarray(product + beside.T @ (beside @ basis), np.float32)

    generator = np.random.default_rng(seed)
    width = min(items, rank + OVERSAMPLED)
    basis = generator.standard_normal((items, width), dtype=np.float32)
    for _ in range(PASSES + 1):
        basis, _ = np.linalg.qr(times(basis))
    inner = basis.T @ times(basis)
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    largest = np.argsort(-values)[:rank]
    root = np.maximum(values[largest], 0.0) ** (config.spectrum_power / 2)
    return np.asarray((basis @ vectors[:, largest]) * root, np.float32)


def _loudness(squares: float, histories: int) -> float:
    """Return what a prior's rows are multiplied by, so that they weigh as the average history does."""
    average = squares / max(histories, 1)
    return float(np.sqrt(average)) if average > 0 else 1.0


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
