"""Cells laid where users look: an inverted file over item vectors that are whitened by what users ask.

An inverted file puts into one cell what is near, but a request ranks by inner products, and its query q weighs some
directions of the item vectors and hardly looks at others. With C = E[q qᵀ] = E Λ Eᵀ of sampled queries,
    x' = Λ^½ Eᵀ x,  q' = Λ^-½ Eᵀ q,  q' · x' = q · x,
nothing changes but what counts as near: two items are, if typical queries cannot tell them apart. One more number,
√(M² − ‖x'‖²) for items and 0 for queries, makes the largest inner product the least distance (Bachrach et al. 2014,
"Speeding up the Xbox recommender system using a Euclidean transformation for inner-product spaces", eq. 3), so that
cells are chosen by distance. Lists hold x', and what is returned are inner products q · x.
"""

from typing import Any, Final

import faiss
import numpy as np

from recsys.types import FloatArray, RealArray

TAUGHT_PER_CELL: Final = (
    64  # items at most that a cell is placed by; FAISS's 256 take four times as long at a million items
)
_FLOOR: Final = 1e-4  # of the mean variance: directions that no sampled query looks along keep a little


def whitened_index(vectors: FloatArray, queries: FloatArray, cells: int) -> faiss.Index:
    """Return a FAISS index of item vectors, (item, feature), that takes queries, (query, feature), as they are."""
    items, features = vectors.shape
    of_items, of_queries = whitening(queries)
    whitened = (vectors @ of_items).astype(np.float32)
    squares = np.square(whitened).sum(axis=1)
    lifted = np.column_stack([whitened, np.sqrt(squares.max() - squares)])
    library: Any = faiss
    inverted: Any = faiss.IndexIVFFlat(
        faiss.IndexFlatL2(features + 1), features + 1, cells, faiss.METRIC_INNER_PRODUCT
    )
    inverted.cp.max_points_per_centroid = TAUGHT_PER_CELL
    inverted.cp.spherical = False  # cells are chosen by distance
    inverted.train(lifted)
    inverted.add(lifted)
    turn = library.LinearTransform(features, features + 1, False)
    matrix = np.vstack([of_queries.T, np.zeros((1, features))]).astype(np.float32)
    faiss.copy_array_to_vector(matrix.ravel(), turn.A)
    turn.is_trained = True
    index = library.IndexPreTransform(turn, inverted)
    index.ntotal, index.is_trained = items, True
    found: faiss.Index = index
    return found


def whitening(queries: FloatArray) -> tuple[RealArray, RealArray]:
    """Return the maps of items and of queries, (feature, feature), for row vectors; they keep inner products."""
    second = queries.astype(np.float64).T @ queries / len(queries)
    features = len(second)
    variance, axes = np.linalg.eigh(
        second + _FLOOR * (np.trace(second) / features + 1e-12) * np.eye(features)
    )
    scale = np.sqrt(variance)
    return axes * scale, axes / scale


def whitened_cells(index: faiss.Index) -> Any:
    """Return the inverted file behind the map of queries."""
    library: Any = faiss
    return library.try_extract_index_ivf(index)
