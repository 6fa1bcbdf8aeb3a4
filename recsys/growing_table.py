"""The item table of a bundle with room behind it for items that came later."""

import numpy as np

from recsys.artifacts.bundle import QBundle
from recsys.candidates.content import Likeness
from recsys.candidates.inner_products import inner_products
from recsys.types import BoolArray, FloatArray, IntArray

_ROOM = 1_024


class GrowingTable:
    """Vectors of all items, the bundle's and those added; copied once there is something to add."""

    def __init__(self, bundle: QBundle) -> None:
        self.base_items = len(bundle.table)
        self.items = self.base_items
        table = bundle.table
        self.vectors: FloatArray = table.vectors.numpy()
        self.features: FloatArray = table.features.numpy()
        self.bias: FloatArray = table.bias.numpy()
        self._known: BoolArray = np.ones(self.base_items, bool)  # false for what is like nothing

    def put(self, index: int, like: Likeness) -> None:
        """Give an added item the mean of what it is like."""
        while index >= len(self.vectors):
            self._grow()
        near, weights = like.items, like.weights
        for rows in (self.vectors, self.features, self.bias):
            rows[index] = np.tensordot(weights, rows[near], axes=1)
        self._known[index] = like.known
        self.items = max(self.items, index + 1)

    def scores(self, items: IntArray, query: FloatArray) -> FloatArray:
        """Return the inner products of items with a query [f(s), w_u, 1], (item,)."""
        width = self.vectors.shape[1]
        scores = inner_products(self.vectors, items, query[:width])
        scores += inner_products(self.features, items, query[width:-1])
        scores += self.bias[items] * query[-1]
        return scores

    def directions(self, items: IntArray) -> FloatArray:
        """Return [e_i, φ(i)] with each half of equal weight, of length 1; (item, feature).

        What is like nothing has no direction: the mean of all items, as which it is scored, is close to most of them.
        """
        halves = [_of_length_one(rows[items]) for rows in (self.vectors, self.features)]
        directions = _of_length_one(np.concatenate(halves, axis=1))
        directions[~self._known[items]] = 0.0
        return directions

    def _grow(self) -> None:
        room = len(self.vectors) + max(_ROOM, self.base_items // 16)

        def grown(column: FloatArray) -> FloatArray:
            larger = np.zeros((room, *column.shape[1:]), column.dtype)
            larger[: self.items] = column[: self.items]
            return larger

        # copies: the bundle's own stay as they are
        self.vectors, self.features, self.bias = map(grown, (self.vectors, self.features, self.bias))
        self._known = np.resize(self._known, room)  # the room is written before it is read


def _of_length_one(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
    return scaled
