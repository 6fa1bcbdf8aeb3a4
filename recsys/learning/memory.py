"""Factors for the memory part of item vectors, cross-fitted: each fold of histories reads what the others make.

A pair of items that only one history holds looks like strong evidence to that history itself. Trained on factors that
contain it, the network learns to trust rare pairs, and validation falls from the second epoch on; trained on factors
without it, validation keeps rising (docs/experiments.md).
"""

import numpy as np
from scipy import sparse

from recsys.config import MemoryConfig
from recsys.learning.factors import cooccurrence_factors, rotate_onto
from recsys.types import FloatArray, LongArray


def draw_folds(histories: int, folds: int, generator: np.random.Generator) -> LongArray:
    """Return the fold of each history, of equal size up to one; (history,)."""
    fold: LongArray = generator.permutation(np.arange(histories) % max(folds, 1)).astype(np.int64)
    return fold


def memory_factors(
    matrix: sparse.csr_matrix,
    fold: LongArray,
    config: MemoryConfig,
    seed: int,
    prior: FloatArray | None = None,  # (row, item), as in `cooccurrence_factors`
    onto: FloatArray | None = None,  # (item, feature), coordinates to turn everything into
) -> tuple[FloatArray, list[FloatArray]]:
    """Return (factors of all histories, factors without each fold turned onto them), each (item, feature)."""
    settings = config.factors()
    everybody = cooccurrence_factors(matrix, settings, seed, prior)
    if onto is not None:
        everybody = rotate_onto(everybody, onto)
    by_fold = [
        rotate_onto(cooccurrence_factors(matrix[fold != each], settings, seed, prior), everybody)
        for each in range(config.folds)
    ]
    return everybody, by_fold
