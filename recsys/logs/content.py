"""What items are, as vectors: words and categories by TF-IDF and SVD, numbers standardised beside them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

from recsys import columns as c
from recsys.datasets.parsing import as_text, flat
from recsys.randomness import derive_seed
from recsys.types import FloatArray

_NOT_CONTENT = {c.ITEM_ID, c.AVAILABLE}
_LARGEST = 3.0  # standard deviations that a number may count


def content_features(items: pa.Table, width: int, seed: int) -> FloatArray:
    """Return (item, width) features; a row is zero where an item has no content, else of length about 1.

    The first columns are the SVD of the TF-IDF of words and tokens, the last ones the standardised numbers
    sign(x) · log(1 + |x|), scaled so that all numbers together weigh as much as one part in √(1 + numbers).
    """
    numbers = _numbers(items)[:, : max(width - 1, 0)]
    text = _text_vectors(items, width - numbers.shape[1], seed)
    features = np.concatenate([text, numbers * 0.5], axis=1)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    vectors: FloatArray = scaled.astype(np.float32)
    return vectors


def _numbers(items: pa.Table) -> np.ndarray:
    """Return (item, number) standardised columns, 0 where a number is missing."""
    columns = []
    for name in sorted(items.column_names):
        kind = items.schema.field(name).type
        if name in _NOT_CONTENT:
            continue
        if pa.types.is_timestamp(kind):
            values = flat(items[name]).cast(pa.int64()).cast(pa.float64(), safe=False)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            values = flat(items[name]).cast(pa.float64(), safe=False)
        else:
            continue
        raw = values.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            logs = np.sign(raw) * np.log1p(np.abs(raw))
        present = np.isfinite(logs)
        if not present.any() or np.ptp(logs[present]) == 0:
            continue
        standard = (logs - logs[present].mean()) / logs[present].std()
        columns.append(np.where(present, np.clip(standard, -_LARGEST, _LARGEST), 0.0))
    return np.stack(columns, axis=1) if columns else np.zeros((items.num_rows, 0))


def _text_vectors(items: pa.Table, width: int, seed: int) -> np.ndarray:
    """Return (item, width) rows of length 1, or 0 where an item has neither words nor tokens."""
    vectors = np.zeros((items.num_rows, width))
    parts = [part for part in (_words(items), _tokens(items)) if part is not None]
    if not parts:
        return vectors
    terms = sparse.hstack(parts).tocsr()
    rank = min(width, min(terms.shape) - 1)
    if rank < 1:
        return vectors
    svd = TruncatedSVD(rank, algorithm="randomized", random_state=derive_seed(seed, "content") % 2**32)
    reduced = svd.fit_transform(terms)  # signs are fixed there: each component's largest loading is positive
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    vectors[:, :rank] = np.divide(reduced, lengths, out=np.zeros_like(reduced), where=lengths > 1e-9)
    return vectors


def _words(items: pa.Table) -> sparse.csr_matrix | None:
    if c.TITLE not in items.column_names:
        return None
    titles = pc.fill_null(as_text(items[c.TITLE]), "").to_pylist()
    try:
        return TfidfVectorizer(sublinear_tf=True, dtype=np.float64).fit_transform(titles)
    except ValueError:  # no word in any title
        return None


def _tokens(items: pa.Table) -> sparse.csr_matrix | None:
    """Return the TF-IDF of whole values: each category, and each value of each string column."""
    rows: list[np.ndarray] = []
    names: list[pa.Array] = []
    for name in sorted(items.column_names):
        column = flat(items[name])
        if name in _NOT_CONTENT or name == c.TITLE:
            continue
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            rows.append(pc.list_parent_indices(column).to_numpy())
            names.append(pc.binary_join_element_wise(name, as_text(pc.list_flatten(column)), "="))
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            rows.append(np.arange(items.num_rows))
            names.append(pc.binary_join_element_wise(name, as_text(column), "="))
    if not names:
        return None
    tokens = pa.concat_arrays(names)
    present = np.asarray(tokens.is_valid())
    if not present.any():
        return None
    tokens = tokens.filter(pa.array(present))
    row = np.concatenate(rows)[present]
    terms = pc.unique(tokens).sort()
    column_of = pc.index_in(tokens, value_set=terms).to_numpy()
    counts = sparse.csr_matrix((np.ones(len(row)), (row, column_of)), shape=(items.num_rows, len(terms)))
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)
