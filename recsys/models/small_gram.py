"""Gram matrices of one user's events, of some tens of rows, and their factors: BLAS and LAPACK called as they are."""

import numpy as np
from scipy.linalg import blas, lapack

from recsys.types import FloatArray


def gram(rows: FloatArray) -> FloatArray:
    """Return the inner products of contiguous rows, (row, row), as BLAS lays them: columns first.

    By the general product: OpenBLAS has kernels for small ones, and none for what knows that it is symmetric.
    """
    found: FloatArray = blas.sgemm(1.0, rows.T, rows.T, trans_a=1)
    return found


def inverse_factor(products: FloatArray, noise: FloatArray | float) -> FloatArray:
    """Return L⁻¹ with LLᵀ = products + noise · I; a Gram matrix, (time, time), is overwritten. Raises LinAlgError."""
    factor = lower_factor(products, noise)
    inverse: FloatArray = lapack.strtri(factor, lower=1, overwrite_c=1)[0]
    return inverse


def lower_factor(products: FloatArray, noise: FloatArray | float) -> FloatArray:
    """Return L with LLᵀ = products + noise · I, or diag(noise); the first is overwritten. Raises LinAlgError."""
    products.reshape(-1, order="A")[:: len(products) + 1] += noise
    factor: FloatArray
    factor, failed = lapack.spotrf(products, lower=1, clean=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError(
            f"a matrix of {len(products)} events is not positive definite; its noise is too small"
        )
    return factor
