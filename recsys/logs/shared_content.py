"""Content vectors that mean the same in every catalogue: a word has one fixed direction, wherever it is used.

    c_i ∝ Σ_t (1 + log n_it) idf_t v_t  (length 1)  +  ½ Σ_a z_ia v_a

over the words t of the title, of categories and of string columns, and over the columns a of numbers; v_t are random
signs over √width that follow from the word alone (random projections: Achlioptas 2003), idf and the standardised z are
those of the catalogue. Inner products are those of the words up to noise of 1/√width, where the fitted space
(content.py) keeps more of them but means something else in each log.
"""

import re

import numpy as np
import pyarrow as pa
from scipy import sparse

from recsys.logs.content import numbers_of, titles_of, tokens_of
from recsys.logs.hashing import HashArray, hash_strings, salted
from recsys.types import FloatArray

_WORD = re.compile(r"\w\w+")
_BITS = 64


def shared_content(items: pa.Table, width: int, fitted_on: pa.Table | None = None) -> FloatArray:
    """Return (item, width) features of length 1, or 0 where an item has no content.

    How rare words are and how numbers spread is read off `fitted_on`, or off the items themselves.
    """
    fitted_on = items if fitted_on is None else fitted_on
    words, counts = item_words(items)
    known, of_known = (words, counts) if items is fitted_on else item_words(fitted_on)
    seen = dict(zip(known, np.asarray((of_known > 0).sum(axis=0)).ravel().tolist(), strict=True))
    documents = np.array([seen.get(word, 0) for word in words], np.float64)
    idf = np.log((1 + fitted_on.num_rows) / (1 + documents)) + 1
    weighted = counts.copy()
    weighted.data = 1 + np.log(weighted.data)
    text = np.asarray((weighted @ sparse.diags(idf)) @ directions(words, width))
    vectors = _of_length_one(text)
    for name, values in numbers_of(items, fitted_on).items():
        vectors += 0.5 * values[:, None] * directions([f"number:{name}"], width)
    return _of_length_one(vectors).astype(np.float32)


def item_words(items: pa.Table) -> tuple[list[str], sparse.csr_matrix]:
    """Return (words in alphabetical order, how often each item has each; (item, word))."""
    row, tokens = tokens_of(items)
    rows, found = [], []
    for place, title in enumerate(titles_of(items)):
        for word in _WORD.findall(title.lower()):
            rows.append(place)
            found.append(word)
    for place, token in zip(row.tolist(), tokens.to_pylist(), strict=True):
        for word in _WORD.findall(token.partition("=")[2].lower()):
            rows.append(place)
            found.append(word)
    words = sorted(set(found))
    place_of = {word: place for place, word in enumerate(words)}
    column = [place_of[word] for word in found]
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, column)), shape=(items.num_rows, len(words)))
    counts.sum_duplicates()
    return words, counts


def directions(words: list[str], width: int) -> np.ndarray:
    """Return the fixed direction of each word, ±1/√width in every place; (word, width)."""
    hashes = hash_strings(pa.array(words, pa.string()))
    blocks = [_signs(salted(hashes, block)) for block in range(-(-width // _BITS))]
    signs: np.ndarray = np.concatenate(blocks, axis=1)[:, :width] / np.sqrt(width)
    return signs


def _signs(hashes: HashArray) -> np.ndarray:
    bits = np.unpackbits(np.ascontiguousarray(hashes.astype("<u8")).view(np.uint8).reshape(-1, 8), axis=1)
    return 1.0 - 2.0 * bits


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-9)
    return scaled
