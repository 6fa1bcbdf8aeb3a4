"""How much of the histories' weight items share: what item-kNN, EASE and the memory's factors start from."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys.types import FloatArray

DENSE_ENTRIES = 2**24  # entries held at once while the largest are chosen, or while rows are made


@dataclass(frozen=True)
class Overlap:
    """How much of the histories' weight items share."""

    product: sparse.csr_matrix  # o_ji, (item, item), without its diagonal
    degree: FloatArray  # o_ii, (item,)


def weighted(matrix: sparse.csr_matrix, history_exponent: float) -> sparse.csr_matrix:
    """Return the rows of a binary (history, item) matrix times √w_h, w_h ∝ n_h^{-2p} and 1 on average.

    The average is over interactions, so a shrinkage of overlaps keeps its meaning: a number of histories.
    """
    length = np.asarray(matrix.sum(axis=1)).ravel()
    weight = np.maximum(length, 1.0) ** (-2.0 * history_exponent)
    weight *= length.sum() / max(float(length @ weight), 1e-12)
    return (sparse.diags(np.sqrt(weight)) @ matrix).astype(np.float32).tocsr()


def overlap(matrix: sparse.csr_matrix, history_exponent: float) -> Overlap:
    """Return the weighted overlaps o_ji = Σ_h w_h x_hj x_hi of a binary (history, item) matrix."""
    scaled = weighted(matrix, history_exponent)
    product = (scaled.T @ scaled).tocsr()
    degree = product.diagonal()
    product.setdiag(0.0)
    product.eliminate_zeros()
    return Overlap(product, degree)


def shrunk_similarity(
    matrix: sparse.csr_matrix,
    history_exponent: float,
    item_exponent: float,
    smoothing: float,
    shrinkage: float,
    most_pairs: int,
) -> sparse.csr_matrix:
    """Return s_ji = o_ji / ((o_jj + μ)(o_ii + μ))^a · o_ji / (o_ji + λ), diagonal included, (item, item).

    Made in blocks of rows. Where more than `most_pairs` pairs could overlap, an item keeps its most similar ones, so
    that memory is bounded by the catalogue and not by the log (Koren 2010, eq. 2, for the shrinkage).
    """
    scaled = weighted(matrix, history_exponent)
    items = scaled.shape[1]
    by_item = scaled.T.tocsr()
    degree = np.asarray(by_item.multiply(by_item).sum(axis=1), np.float32).ravel()
    scale = np.maximum(degree + np.float32(smoothing), np.float32(1.0)) ** np.float32(-item_exponent)
    work = by_item.astype(bool).astype(np.float32) @ np.diff(scaled.indptr).astype(np.float32)
    most = max(1, most_pairs // max(items, 1))
    block_of = (np.cumsum(work, dtype=np.float64) // DENSE_ENTRIES).astype(np.int64)
    ends = np.flatnonzero(np.diff(block_of, append=-1)) + 1 if items else np.zeros(0, np.int64)
    parts, begin, cut = [], 0, False
    for end in ends:
        part = (by_item[begin:end] @ scaled).tocsr()
        own = np.repeat(scale[begin:end], np.diff(part.indptr))
        part.data = part.data**2 / (part.data + np.float32(shrinkage)) * own * scale[part.indices]
        if (np.diff(part.indptr) > most).any():
            part, cut = nearest(part, most), True
        parts.append(part)
        begin = int(end)
    similarity = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((items, items))
    return similarity.maximum(similarity.T).tocsr() if cut else similarity


def nearest(similarity: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """Keep the `count` largest positive entries of each row; entries as large as the last one stay too."""
    sizes = np.diff(similarity.indptr)
    floor = np.zeros(len(sizes), similarity.dtype)
    crowded = np.flatnonzero(sizes > count)
    crowded = crowded[np.argsort(sizes[crowded], kind="stable")]  # rows of a block are about as long
    while len(crowded):
        width = int(sizes[crowded[-1]])
        rows = crowded[-max(1, DENSE_ENTRIES // width) :]
        crowded = crowded[: -len(rows)]
        place = np.arange(width)[None, :]
        held = place < sizes[rows][:, None]
        entry = np.where(held, similarity.indptr[rows][:, None] + place, 0)
        values = np.where(held, similarity.data[entry], 0.0)
        floor[rows] = np.partition(values, width - count, axis=1)[:, width - count]
    kept = similarity.copy()
    kept.data[kept.data < np.repeat(floor, sizes)] = 0.0
    kept.eliminate_zeros()
    return kept
