"""A sum tree over priorities: batched updates and batched searches in a handful of array operations.

Every node holds the sum of its FAN_OUT children, level by level in flat arrays, up to a top level of at most TOP nodes
that is searched by bisection of its running sum: 100 000 leaves are two levels, ten million are four. A batch walks all
levels at once, so a call costs O(batch · log n) without a loop over transitions. Sums are recomputed from the children,
never shifted by a difference, so no rounding piles up.
"""

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.types import LongArray

FAN_OUT = 16
TOP = 8192
DoubleArray = npt.NDArray[np.float64]


class SumTree:
    """Weights of `leaves` leaves, all 0 at first, with the sum of every stretch that the search needs."""

    def __init__(self, leaves: int) -> None:
        if leaves < 1:
            raise UserError(f"a sum tree of {leaves} leaves holds nothing; give it 1 or more")
        self.leaves = leaves
        self._levels = [np.zeros(leaves)]  # leaves first; each padded with zeros to whole families
        while len(self._levels[-1]) > TOP:
            families = -(-len(self._levels[-1]) // FAN_OUT)
            self._levels[-1] = np.zeros(families * FAN_OUT)
            self._levels.append(np.zeros(families))
        self._running: DoubleArray | None = None  # running sum of the top level, until an update

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._top()[-1])

    @property
    def weights(self) -> DoubleArray:
        """A copy of the weights, (leaf,)."""
        return self._levels[0][: self.leaves].copy()

    def __getitem__(self, leaf: LongArray) -> DoubleArray:
        """Return the weights of some leaves."""
        return self._levels[0][leaf]

    def update(self, leaf: LongArray, weight: npt.NDArray[np.floating]) -> None:
        """Set the weights of some leaves; of a leaf named twice, the last weight stays.

        Raises UserError at a weight that is negative or no finite number, before anything is changed.
        """
        bad = np.flatnonzero(~((weight >= 0.0) & (weight < np.inf)))
        if len(bad):
            raise UserError(
                f"the priority of transition {leaf[bad[0]]} is {weight[bad[0]]}, must be a finite number of 0 or "
                "more; a TD error that is NaN means that training has diverged: lower the learning rate"
            )
        if len(leaf) and not (leaf.min() >= 0 and leaf.max() < self.leaves):
            raise IndexError(f"leaves {leaf.min()} to {leaf.max()} are not all within 0 to {self.leaves - 1}")
        self._running = None
        self._levels[0][leaf] = weight  # numpy assigns in order, so the last of equal leaves wins
        for below, above in zip(self._levels[:-1], self._levels[1:], strict=True):
            leaf = leaf // FAN_OUT  # equal parents repeat, all with the same sum
            above[leaf] = below.reshape(-1, FAN_OUT)[leaf].sum(axis=1)

    def find(self, mass: DoubleArray) -> LongArray:
        """Return for each mass in [0, total) the leaf i with Σ_{k<i} w_k ≤ mass < Σ_{k≤i} w_k; never one of weight 0.

        Raises UserError if all weights are 0.
        """
        running = self._top()
        if not running[-1] > 0.0:
            raise UserError(
                "all priorities are 0, at least one must be positive; add transitions before sampling"
            )
        # rounding must not carry a mass behind the last weight that is positive
        mass = np.minimum(mass, np.nextafter(running[-1], 0.0))
        node = np.searchsorted(running, mass, side="right")
        rest = mass - np.where(node > 0, running[node - 1], 0.0)
        row = np.arange(len(mass))
        for level in reversed(self._levels[:-1]):
            behind = np.cumsum(level.reshape(-1, FAN_OUT)[node], axis=1)
            rest = np.minimum(rest, np.nextafter(behind[:, -1], 0.0))
            child = (behind > rest[:, None]).argmax(axis=1)
            if level is not self._levels[0]:
                rest = rest - np.where(child > 0, behind[row, child - 1], 0.0)
            node = node * FAN_OUT + child
        return node

    def sample(self, count: int, generator: np.random.Generator) -> LongArray:
        """Draw leaves with chance w_i / total each, one from every `count`-th part of the total (stratified)."""
        uniform = (np.arange(count) + generator.random(count)) / count
        return self.find(uniform * self.total)

    def _top(self) -> DoubleArray:
        if self._running is None:
            self._running = np.cumsum(self._levels[-1])
        return self._running
