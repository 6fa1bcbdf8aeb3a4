"""Inner products of a query with some rows of a table, in place: no row is copied, which is half of what it costs."""

from typing import Any

import faiss
import numpy as np

from recsys.types import FloatArray, IntArray


def inner_products(rows: FloatArray, items: IntArray, query: FloatArray) -> FloatArray:
    """Return ⟨rows[i], query⟩ of items, (item,), from a table, (row, feature), whose rows lie one behind the other.

    Raises IndexError where an item has no row, ValueError where the table is not float32 or is a view with gaps.
    """
    if rows.dtype != np.float32 or not rows.flags.c_contiguous:
        raise ValueError(f"rows must be float32 end to end, are {rows.dtype} with strides {rows.strides}")
    if len(query) != rows.shape[1]:
        raise ValueError(f"the query has {len(query)} features, the rows {rows.shape[1]}")
    found = np.empty(len(items), np.float32)
    if not len(items):
        return found
    wanted = np.ascontiguousarray(items, np.int64)
    if np.maximum.reduce(wanted.view(np.uint64)) >= len(rows):  # read so, a negative one is larger than any
        raise IndexError(f"items {wanted.min()} to {wanted.max()} are asked of {len(rows)} rows")
    asked = np.ascontiguousarray(query, np.float32)
    library: Any = faiss  # whose stubs do not know these
    pointer = library.swig_ptr
    library.fvec_inner_products_by_idx(
        pointer(found), pointer(asked), pointer(rows), pointer(wanted), len(asked), 1, len(wanted)
    )
    return found
