"""Adds up rounds chunk by chunk, for any number of policies and estimators at once, into sums by block."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.ope.estimators import Estimator, Terms, on_policy
from recsys.evaluation.ope.rounds import Rounds
from recsys.evaluation.ope.rounds import blocks as parts
from recsys.evaluation.ope.sums import BLOCKS, LOGGING, Kind, Sums, Weighted, WeightSummary
from recsys.types import LongArray, RealArray

CHUNK: Final = 65_536  # rounds whose terms are held at once
Columns = Mapping[str, Terms]


@dataclass
class Accumulator:
    """Adds up chunks of rounds; several policies may be evaluated on the same rounds."""

    blocks: int = BLOCKS
    _names: tuple[str, ...] = ()
    _layout: list[tuple[int, int, int]] = field(
        default_factory=list
    )  # places of base, numerator, denominator
    _sums: RealArray | None = None  # (block, distinct array)
    _rounds: int = 0
    _reward: tuple[float, float] = (np.inf, -np.inf)
    _weights: list[WeightSummary] = field(default_factory=list)
    _residuals: list[tuple[float, float]] = field(default_factory=list)
    _policies: tuple[str, ...] = ()
    _most: list[float] = field(default_factory=list)  # largest weight there can be
    _least: float = 1.0  # propensity seen

    def add(self, policies: Mapping[str, Weighted], columns: Columns, block: LongArray | None = None) -> None:
        """Add rounds: the same ones in every policy, with the terms of every column; `block` is (round,)."""
        arrays, layout = _distinct(columns, [rounds.weight for rounds in policies.values()])
        rounds = next(iter(policies.values()))
        size = len(rounds)
        if self._sums is None:
            self._names, self._layout = tuple(columns), layout
            self._sums = np.zeros((self.blocks, len(arrays) + 1))
            self._weights = [WeightSummary(0, 0.0, 0.0, 0.0) for _ in policies]
            self._residuals = [(np.inf, -np.inf) for _ in policies]
            self._policies = tuple(policies)
            self._most = [0.0 for _ in policies]
        if tuple(columns) != self._names:
            raise UserError(
                f"a chunk has columns {list(columns)}, must have {list(self._names)}; give the same"
            )
        if not size:
            return
        if block is None and rounds.cluster is not None:
            block = hashed(rounds.cluster, self.blocks)
        self._sums += _by_block(arrays, block, self.blocks, self._rounds, size)
        self._rounds += size
        self._reward = _widened(self._reward, rounds.reward)
        self._least = min(self._least, float(rounds.propensity.min()))
        for place, policy in enumerate(policies.values()):
            w, old = policy.weight, self._weights[place]
            self._weights[place] = WeightSummary(
                old.rounds + size,
                old.total + float(w.sum()),
                old.squares + float(w @ w),
                max(old.largest, float(w.max())),
            )
            self._residuals[place] = _widened(self._residuals[place], policy.residual)
            self._most[place] = max(self._most[place], policy.max_weight)

    def sums(self) -> Sums:
        """Return what was added; blocks without rounds are left out."""
        if self._sums is None or not self._rounds:
            raise UserError("0 rounds were given, at least 1 is needed; check the filters of the log")
        count = self._sums[:, -1]
        seen = count > 0
        kept = self._sums[seen]
        policies = len(self._weights)
        base, numerator, denominator = (
            kept[:, [entry[part] for entry in self._layout]] if self._layout else np.empty((len(kept), 0))
            for part in range(3)
        )
        base = np.where([entry[0] == _NOTHING for entry in self._layout], 0.0, base)
        return Sums(
            self._names,
            np.flatnonzero(seen).astype(np.int64),
            count[seen],
            base,
            numerator,
            denominator,
            kept[:, :policies] - count[seen][:, None],
            self._reward,
            tuple(self._weights),
            tuple(self._residuals),
            self._policies,
            tuple(self._kind(entry[2]) for entry in self._layout),
            tuple(
                max(most, summary.largest) for most, summary in zip(self._most, self._weights, strict=True)
            ),
            self._least,
        )

    def _kind(self, place: int) -> Kind:
        if place == _NOTHING:
            return "count"
        return "weight" if place < len(self._weights) else "other"


_NOTHING: Final = -1  # also the place of the count, which closes every row of sums


def _distinct(
    columns: Columns, weights: Sequence[RealArray]
) -> tuple[list[RealArray], list[tuple[int, int, int]]]:
    """Return the different arrays of some terms, weights first, and where each column finds its own."""
    arrays = list(weights)
    places = {id(array): place for place, array in enumerate(arrays)}

    def place_of(array: RealArray | None) -> int:
        if array is None:
            return _NOTHING
        if id(array) not in places:
            places[id(array)] = len(arrays)
            arrays.append(array)
        return places[id(array)]

    layout = [
        (place_of(terms.base), place_of(terms.numerator), place_of(terms.denominator))
        for terms in columns.values()
    ]
    return arrays, layout


def _by_block(
    arrays: Sequence[RealArray], block: LongArray | None, blocks: int, first: int, size: int
) -> RealArray:
    """Return the sums of each array and the count, (block, array + 1); without blocks rounds are dealt out in turn."""
    out = np.empty((blocks, len(arrays) + 1))
    if block is not None:
        for place, array in enumerate(arrays):  # over columns
            out[:, place] = np.bincount(block, array, minlength=blocks)
        out[:, -1] = np.bincount(block, minlength=blocks)
        return out
    start = first % blocks
    head = min((blocks - start) % blocks, size)
    whole = head + (size - head) // blocks * blocks
    count = out[:, -1]
    count[:] = (whole - head) // blocks
    count[start : start + head] += 1.0
    count[: size - whole] += 1.0
    for place, array in enumerate(arrays):
        column = out[:, place]
        column[:] = array[head:whole].reshape(-1, blocks).sum(axis=0)
        column[start : start + head] += array[:head]
        column[: size - whole] += array[whole:]
    return out


def hashed(cluster: LongArray, blocks: int) -> LongArray:
    """Return the block of each cluster, (round,): the mixer of splitmix64, the same in every chunk."""
    mixed = cluster.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(blocks)).astype(np.int64)


def _widened(span: tuple[float, float], values: RealArray) -> tuple[float, float]:
    return min(span[0], float(values.min())), max(span[1], float(values.max()))


def terms_of(policies: Mapping[str, Rounds], estimators: Mapping[str, Estimator]) -> dict[str, Terms]:
    """Return the terms of every estimator for every policy, named "policy/estimator"; bare for a single policy.

    What the logging policy earned is one more column.
    """
    columns = {LOGGING: on_policy(next(iter(policies.values())))}
    for policy, rounds in policies.items():
        prefix = f"{policy}/" if len(policies) > 1 else ""
        columns |= {f"{prefix}{name}": estimator(rounds) for name, estimator in estimators.items()}
    return columns


def sum_rounds(
    rounds: Rounds | Mapping[str, Rounds],
    estimators: Mapping[str, Estimator],
    blocks: int = BLOCKS,
) -> Sums:
    """Return the sums of rounds that are in memory, a chunk at a time; clusters that fit the blocks keep one each."""
    policies = rounds if isinstance(rounds, Mapping) else {"policy": rounds}
    first = next(iter(policies.values()))
    codes: LongArray | None = None
    if first.cluster is not None:
        distinct, codes = np.unique(first.cluster, return_inverse=True)
        codes = codes if len(distinct) <= blocks else hashed(first.cluster, blocks)
    added = Accumulator(blocks)
    for part in parts(len(first), CHUNK):
        chunk = {name: policy.at(part) for name, policy in policies.items()}
        added.add(chunk, terms_of(chunk, estimators), None if codes is None else codes[part])
    return added.sums()


def sum_stream(
    chunks: Iterable[Mapping[str, Rounds]],
    estimators: Mapping[str, Estimator],
    blocks: int = BLOCKS,
    on_chunk: Callable[[int], None] = lambda rounds: None,
) -> Sums:
    """Return the sums of a log that is read chunk by chunk, in memory that does not grow with it."""
    added = Accumulator(blocks)
    for policies in chunks:
        added.add(policies, terms_of(policies, estimators))
        on_chunk(len(next(iter(policies.values()))))
    return added.sums()
