"""Vectors for items that came after the bundle: each is the mean of the bundle's items that are most like it.

Words of titles and whole categories, as TF-IDF rows of length 1; an item without history is, to whatever ranks, the
mean of its nearest neighbours with weights cos² (kernel regression in content). It needs nothing of the bundle but
its own catalogue, so it works for a student and for every baseline alike.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from recsys.catalogue import Catalogue
from recsys.types import FloatArray, IntArray

NEIGHBOURS = 20
_TERMS = 2**18
_CELLS = 4_000_000  # cosines at once, 32 MB
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Likeness:
    """What an item is like: items of the bundle with weights that sum to one, both (neighbour,)."""

    items: IntArray
    weights: FloatArray
    known: bool = (
        True  # false: it shares no word and no category with any item, and stands for all of them alike
    )


class ContentNeighbours:
    """The bundle's items by their content; build it once, away from the request path."""

    def __init__(self, catalogue: Catalogue) -> None:
        rows = _counted(catalogue.titles, catalogue.categories)
        known_by = np.bincount(rows.indices, minlength=_TERMS)
        self._worth = np.log((1.0 + rows.shape[0]) / (1.0 + known_by)) + 1.0  # inverse document frequency
        self._rows = self._weighed(rows)

    def like(self, title: str, categories: Sequence[str]) -> Likeness:
        """Return what an item with this content is like; all items alike where nothing is."""
        asked = self._weighed(_counted([title], [tuple(categories)]))
        cosines = (asked @ self._rows.T).toarray()
        (nearest,), (weights,) = _nearest(cosines)
        alike = weights > 0
        if not alike.any():
            everything = np.arange(cosines.shape[1], dtype=np.int32)
            return Likeness(
                everything, np.full(len(everything), 1.0 / len(everything), np.float32), known=False
            )
        return Likeness(nearest[alike], weights[alike].astype(np.float32))

    def means(self, items: IntArray, among: IntArray, columns: FloatArray) -> FloatArray:
        """Return rows for items of the catalogue, (item, feature): of `columns` the means over what each is like.

        Only items `among` are looked at; where none of them is alike, it is the mean of all of them.
        """
        known, rows = self._rows[among].T.tocsc(), columns[among]
        found = np.empty((len(items), rows.shape[1]), np.float32)
        at_once = max(1, _CELLS // len(among))
        for start in range(0, len(items), at_once):
            block = slice(start, start + at_once)
            nearest, weights = _nearest((self._rows[items[block]] @ known).toarray())
            found[block] = np.einsum("in,inf->if", weights, rows[nearest])
            found[block][~weights.any(axis=1)] = rows.mean(axis=0)
        return found

    def _weighed(self, rows: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return rows of length 1, or 0 where there is no word: (1 + log count) · inverse document frequency."""
        values = (1.0 + np.log(rows.data)) * self._worth[rows.indices]
        weighed = sparse.csr_matrix((values, rows.indices, rows.indptr), shape=rows.shape)
        lengths = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1))[:, 0])
        weighed.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(weighed.indptr))
        return weighed


def _nearest(cosines: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the likest items of each row, likest first, and their weights cos² of sum 1, or 0 where none is alike."""
    count, row = min(NEIGHBOURS, cosines.shape[1]), np.arange(len(cosines))[:, None]
    nearest = np.argpartition(-cosines, count - 1)[:, :count]
    likest = nearest[row, np.lexsort((nearest, -cosines[row, nearest]))].astype(np.int32)
    weights: FloatArray = cosines[row, likest] ** 2
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return likest, weights


def _counted(titles: Sequence[str], categories: Sequence[Sequence[str]]) -> sparse.csr_matrix:
    """Return how often each term stands in each item's content, (item, hashed term)."""
    terms: list[int] = []
    ends = [0]
    for title, names in zip(titles, categories, strict=True):
        # a category is one term, whatever words it is made of
        terms += [zlib.crc32(word.encode()) % _TERMS for word in _words(title)]
        terms += [zlib.crc32(f"category={name}".encode()) % _TERMS for name in names]
        ends.append(len(terms))
    counts = sparse.csr_matrix((np.ones(len(terms)), terms, ends), shape=(len(titles), _TERMS))
    counts.sum_duplicates()
    return counts


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def category_directions(categories: Sequence[Sequence[str]]) -> FloatArray:
    """Return items as indicators of their categories, of length 1 or 0; (item, category).

    The categories of the items at hand are all there are; what stands alone is like nothing.
    """
    names = {
        name: column for column, name in enumerate(sorted({name for each in categories for name in each}))
    }
    rows = np.zeros((len(categories), max(1, len(names))), np.float32)
    for row, each in enumerate(categories):
        if each:
            rows[row, [names[name] for name in each]] = len(set(each)) ** -0.5
    return rows
