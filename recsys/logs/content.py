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


def content_features(
    items: pa.Table,
    width: int,
    seed: int,
    fitted_on: pa.Table | None = None,  # none = the items themselves
) -> FloatArray:
    """Return (item, width) features; a row is zero where an item has no content, else of length about 1.

    The first columns are the SVD of the TF-IDF of words and tokens, the last ones the standardised numbers
    sign(x) · log(1 + |x|), scaled so that all numbers together weigh as much as one part in √(1 + numbers).
    Vocabulary, SVD and standardisation are those of `fitted_on`: new items then lie in the space of earlier ones, and
    words that it lacks say nothing.
    """
    fitted_on = items if fitted_on is None else fitted_on
    columns = list(numbers_of(items, fitted_on).values())[: max(width - 1, 0)]
    numbers = np.stack(columns, axis=1) if columns else np.zeros((items.num_rows, 0))
    text = _text_vectors(items, fitted_on, width - numbers.shape[1], seed)
    features = np.concatenate([text, numbers * 0.5], axis=1)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    vectors: FloatArray = scaled.astype(np.float32)
    return vectors


def numbers_of(items: pa.Table, fitted_on: pa.Table) -> dict[str, np.ndarray]:
    """Return columns of numbers, (item,), standardised as those of `fitted_on` are, 0 where a number is missing."""
    columns = {}
    for name in sorted(fitted_on.column_names):
        logs = _logarithms(fitted_on, name)
        if logs is None:
            continue
        present = np.isfinite(logs)
        if not present.any() or np.ptp(logs[present]) == 0:
            continue
        mean, spread = logs[present].mean(), logs[present].std()
        if items is not fitted_on:
            asked = _logarithms(items, name) if name in items.column_names else None
            logs = np.full(items.num_rows, np.nan) if asked is None else asked
        standard = (logs - mean) / spread
        columns[name] = np.where(np.isfinite(logs), np.clip(standard, -_LARGEST, _LARGEST), 0.0)
    return columns


def _logarithms(items: pa.Table, name: str) -> np.ndarray | None:
    """Return sign(x) · log(1 + |x|) of a column, NaN where it is missing; None if it holds no numbers."""
    kind = items.schema.field(name).type
    if name in _NOT_CONTENT:
        return None
    if pa.types.is_timestamp(kind):
        values = flat(items[name]).cast(pa.int64()).cast(pa.float64(), safe=False)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = flat(items[name]).cast(pa.float64(), safe=False)
    else:
        return None
    raw = values.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        logs: np.ndarray = np.sign(raw) * np.log1p(np.abs(raw))
    return logs


def _text_vectors(items: pa.Table, fitted_on: pa.Table, width: int, seed: int) -> np.ndarray:
    """Return (item, width) rows of length 1, or 0 where an item has neither words nor tokens."""
    vectors = np.zeros((items.num_rows, width))
    parts = [part for part in (_words(items, fitted_on), _tokens(items, fitted_on)) if part is not None]
    if not parts:
        return vectors
    known, asked = (sparse.hstack([part[place] for part in parts]).tocsr() for place in (0, 1))
    rank = min(width, min(known.shape) - 1)
    if rank < 1:
        return vectors
    svd = TruncatedSVD(rank, algorithm="randomized", random_state=derive_seed(seed, "content") % 2**32)
    reduced = svd.fit_transform(known)  # signs are fixed there: each component's largest loading is positive
    if items is not fitted_on:
        reduced = svd.transform(asked)
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    vectors[:, :rank] = np.divide(reduced, lengths, out=np.zeros_like(reduced), where=lengths > 1e-9)
    return vectors


Terms = tuple[sparse.csr_matrix, sparse.csr_matrix]  # of the items fitted on, of the items asked for


def _words(items: pa.Table, fitted_on: pa.Table) -> Terms | None:
    if c.TITLE not in fitted_on.column_names:
        return None
    words = TfidfVectorizer(sublinear_tf=True, dtype=np.float64)
    try:
        known = words.fit_transform(titles_of(fitted_on))
    except ValueError:  # no word in any title
        return None
    return known, known if items is fitted_on else words.transform(titles_of(items))


def titles_of(items: pa.Table) -> list[str]:
    """Return the titles, empty where there is none."""
    if c.TITLE not in items.column_names:
        return [""] * items.num_rows
    titles: list[str] = pc.fill_null(as_text(items[c.TITLE]), "").to_pylist()
    return titles


def _tokens(items: pa.Table, fitted_on: pa.Table) -> Terms | None:
    """Return the TF-IDF of whole values: each category, and each value of each string column."""
    row, tokens = tokens_of(fitted_on)
    if not len(row):
        return None
    terms = pc.unique(tokens).sort()
    weigh = TfidfTransformer(sublinear_tf=True)
    known = weigh.fit_transform(_counts(row, tokens, terms, fitted_on.num_rows))
    if items is fitted_on:
        return known, known
    return known, weigh.transform(_counts(*tokens_of(items), terms, items.num_rows))


def tokens_of(items: pa.Table) -> tuple[np.ndarray, pa.Array]:
    """Return (row, `column=value`) of every category and of every value of a string column."""
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
        return np.zeros(0, np.int64), pa.array([], pa.string())
    tokens = pa.concat_arrays(names)
    present = np.asarray(tokens.is_valid())
    return np.concatenate(rows)[present], tokens.filter(pa.array(present))


def _counts(row: np.ndarray, tokens: pa.Array, terms: pa.Array, items: int) -> sparse.csr_matrix:
    """Return how often each item has each term, (item, term); other tokens are left out."""
    column = pc.fill_null(pc.index_in(tokens, value_set=terms), -1).to_numpy()
    known = column >= 0
    shape = (items, len(terms))
    return sparse.csr_matrix((np.ones(int(known.sum())), (row[known], column[known])), shape=shape)
