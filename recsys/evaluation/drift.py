"""Drift: is the traffic of now that of before? What users take, what they are worth, who they are, what is shown.

    item mix       stability index Σ (p − q) log(p / q) of what users took, by item
    overlap        1 − Σ min(p, q) of what was shown, by item: how little of now the logs of before could speak for
    reward rate    mean reward of a list
    cold share     share of lists for users without an event before
    propensity     mean log10 of the propensity of the item on top

Users are the unit of chance. Differences of means have clustered intervals. Distances are never 0 by chance: what two
draws of the time before would differ by is subtracted, and a distance counts if it is beyond nearly all of those.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import sparse, stats

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.evaluation.ope.accumulate import hashed
from recsys.evaluation.ope.sums import BLOCKS
from recsys.evaluation.replay.attribution import attribute
from recsys.evaluation.replay.log import EventSource, requests_of
from recsys.evaluation.replay.tally import Vocabulary
from recsys.loop_config import DriftConfig
from recsys.mdp.reward import rewards
from recsys.types import BoolArray, LongArray, RealArray

Verdict = Literal["steady", "drifted", "too few"]
Distance = Callable[[RealArray, RealArray], RealArray]  # of mixes (draw, item), (draw,)
_COUNTS_AT_ONCE: Final = 8_388_608
_HOUR_US: Final = 3_600_000_000
_CONFIDENCE: Final = 0.95
_LISTS, _REWARD, _COLD, _LOG_PROPENSITY = range(4)


@dataclass(frozen=True)
class DriftRow:
    """One measure."""

    name: str
    before: float | None  # none where only the distance of both has a meaning
    now: float | None
    change: float
    low: float
    high: float
    bound: float
    verdict: Verdict
    says: str


@dataclass(frozen=True)
class Drift:
    """All measures of two windows."""

    rows: Sequence[DriftRow]
    lists: tuple[int, int]  # before, now
    windows_us: tuple[int, int, int]  # before begins, now begins, now ends
    min_lists: int  # in each window

    @property
    def verdict(self) -> Verdict:
        """Whether anything drifted; "too few" if nothing can be said."""
        found = {row.verdict for row in self.rows}
        return "drifted" if "drifted" in found else "too few" if found == {"too few"} else "steady"

    @property
    def sentence(self) -> str:
        """What is to be said in one line."""
        if self.verdict == "too few":
            return (
                f"Too few lists to say: {self.lists[0]:,} before, {self.lists[1]:,} now, at least {self.min_lists:,} "
                "of each are needed; wait for more, or set improve.drift.window_hours, reference_hours or min_lists."
            )
        drifted = [row.says for row in self.rows if row.verdict == "drifted"]
        return f"Drifted: {'; '.join(drifted)}." if drifted else "Steady: nothing moved beyond its bound."


class _Window:
    """Sums of one window by block of users."""

    def __init__(self) -> None:
        self.sums = np.zeros((BLOCKS, 4))
        self._taken: list[LongArray] = []
        self._shown: list[LongArray] = []

    def add(self, block: LongArray, values: RealArray) -> None:
        for place in range(values.shape[1]):
            self.sums[:, place] += np.bincount(block, values[:, place], minlength=BLOCKS)

    def take(self, block: LongArray, item: LongArray) -> None:
        self._taken.append(_counted(block, item))

    def show(self, block: LongArray, item: LongArray) -> None:
        self._shown.append(_counted(block, item))

    def taken(self, items: int) -> sparse.csr_matrix:
        return _matrix(self._taken, items)

    def shown(self, items: int) -> sparse.csr_matrix:
        return _matrix(self._shown, items)


def measure_drift(
    source: EventSource, reward: RewardConfig, window_s: float, config: DriftConfig, seed: int
) -> Drift:
    """Return the drift of the newest window against the one before it; raises UserError for a log without lists."""
    end = max((_last_list(frame) for frame in source), default=-1)
    if end < 0:
        raise UserError(f"0 lists in {source.name}, at least 1 is needed; serve some first")
    middle = end - round(config.window_hours * _HOUR_US)
    start = middle - round(config.reference_hours * _HOUR_US)
    vocabulary = Vocabulary()
    before, now = _Window(), _Window()
    for frame in source:
        codes = vocabulary.codes(frame[c.ITEM_ID])
        earned = attribute(frame, codes, reward, window_s).reward
        lists = requests_of(frame, codes)
        values, blocks = _values(frame, lists, earned), _blocks(lists.who)
        time = frame["time"].to_numpy()
        wanted = (frame[c.EVENT_TYPE] != c.IMPRESSION).to_numpy() & (_worth(frame, reward) > 0)
        row_blocks = _blocks(frame["who"].tolist())
        for window, since, until in ((before, start, middle), (now, middle, end + 1)):
            inside = (lists.time >= since) & (lists.time < until)
            window.add(blocks[inside], values[inside])
            item = lists.item[inside]
            there = item >= 0
            window.show(np.broadcast_to(blocks[inside][:, None], item.shape)[there], item[there])
            rows = wanted & (time >= since) & (time < until)
            window.take(row_blocks[rows], codes[rows])
    counts = int(before.sums[:, _LISTS].sum()), int(now.sums[:, _LISTS].sum())
    enough = min(counts) >= config.min_lists
    generator = np.random.default_rng(seed)
    items = len(vocabulary)
    made = [
        _distance("item mix", "what users take", _stability, before.taken(items), now.taken(items),
                  config.item_mix, config.resamples, generator, enough),
        _mean("reward rate", "the mean reward of a list", before, now, _REWARD, config.reward_rate, enough,
              relative=True),
        _mean("cold share", "the share of lists for cold users", before, now, _COLD, config.cold_share, enough),
        _distance("overlap lost", "what is shown", _overlap_lost, before.shown(items), now.shown(items),
                  config.overlap, config.resamples, generator, enough),
        _mean("log10 propensity", "the mean log10 propensity on top", before, now, _LOG_PROPENSITY,
              config.propensity, enough),
    ]  # fmt: skip
    return Drift(made, counts, (start, middle, end), config.min_lists)


def _values(frame: pd.DataFrame, lists: Any, earned: RealArray) -> RealArray:
    """Return 1, reward, whether the user is cold, log10 propensity on top; (list, 4)."""
    reward = np.where(lists.row >= 0, earned[np.maximum(lists.row, 0)], 0.0).sum(axis=1)
    feedback = frame[frame[c.EVENT_TYPE] != c.IMPRESSION].groupby("who")["time"].min()
    first = feedback.reindex(lists.who).to_numpy(np.float64, na_value=np.inf)
    cold = lists.time <= first
    top = np.log10(lists.propensity[:, 0]) if len(lists) else np.empty(0)
    return np.stack([np.ones(len(lists)), reward, cold.astype(np.float64), top], axis=1)


def _worth(frame: pd.DataFrame, reward: RewardConfig) -> RealArray:
    types, codes = np.unique(frame[c.EVENT_TYPE].to_numpy(str), return_inverse=True)
    values = frame[c.VALUE].to_numpy(np.float64, na_value=np.nan)
    return np.asarray(rewards(reward, types.tolist(), codes, values), np.float64)


def _last_list(frame: pd.DataFrame) -> int:
    shown = (frame[c.EVENT_TYPE] == c.IMPRESSION) & frame[c.RECOMMENDATION_ID].notna()
    return int(frame["time"][shown].max()) if shown.any() else -1


def _blocks(who: Sequence[str]) -> LongArray:
    if not len(who):
        return np.empty(0, np.int64)
    hashes = pd.util.hash_array(np.array(who, object))
    return hashed((hashes >> np.uint64(1)).astype(np.int64), BLOCKS)


def _counted(block: LongArray, item: LongArray) -> LongArray:
    """Return (block, item, count) of pairs, (3, pair)."""
    if not len(block):
        return np.empty((3, 0), np.int64)
    key, count = np.unique(block * (1 << 40) + item, return_counts=True)
    return np.stack([key >> 40, key & ((1 << 40) - 1), count])


def _matrix(parts: list[LongArray], items: int) -> sparse.csr_matrix:
    block, item, count = np.concatenate(parts, axis=1) if parts else np.empty((3, 0), np.int64)
    return sparse.csr_matrix((count.astype(np.float64), (block, item)), shape=(BLOCKS, max(items, 1)))


def _mean(
    name: str,
    what: str,
    before: _Window,
    now: _Window,
    place: int,
    bound: float,
    enough: bool,
    *,
    relative: bool = False,
) -> DriftRow:
    """Return the change of a mean over lists, users as clusters, also of users who are in both windows."""
    old, new = before.sums, now.sums
    first, second = (sums[:, place].sum() / max(sums[:, _LISTS].sum(), 1.0) for sums in (old, new))
    influence = (new[:, place] - second * new[:, _LISTS]) / max(new[:, _LISTS].sum(), 1.0)
    influence -= (old[:, place] - first * old[:, _LISTS]) / max(old[:, _LISTS].sum(), 1.0)
    clusters = int(((old[:, _LISTS] > 0) | (new[:, _LISTS] > 0)).sum())
    error = np.sqrt(clusters / max(clusters - 1, 1) * float((influence**2).sum()))
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, max(clusters - 1, 1))) * error
    scale = abs(first) if relative and first else 1.0
    change, low, high = ((second - first + shift) / scale for shift in (0.0, -half, half))
    moved = abs(change) > bound and (low > 0 or high < 0)
    verdict: Verdict = "too few" if not enough else "drifted" if moved else "steady"
    how = f"{change:+.1%}" if relative else f"{change:+.3g}"
    return DriftRow(
        name, float(first), float(second), float(change), float(low), float(high), bound, verdict,
        f"{what} went from {first:.3g} to {second:.3g} ({how})",
    )  # fmt: skip


def _distance(
    name: str,
    what: str,
    distance: Distance,
    before: sparse.csr_matrix,
    now: sparse.csr_matrix,
    bound: float,
    resamples: int,
    generator: np.random.Generator,
    enough: bool,
) -> DriftRow:
    """Return the distance of two mixes of items beyond chance; chance is two draws of the users of before."""
    old, new = (np.asarray(matrix.sum(axis=0)) for matrix in (before, now))
    if not old.sum() or not new.sum():
        return DriftRow(name, None, None, 0.0, 0.0, 0.0, bound, "too few", f"{what} is not known")
    seen = float(distance(old, new)[0])
    share = float(new.sum() / old.sum())
    chance = _draws(distance, before, (before, share), resamples, generator)
    again = _draws(distance, before, (now, 1.0), resamples, generator)
    change = seen - float(chance.mean())
    half = 1.96 * float(again.std())
    moved: BoolArray = np.asarray(change > bound and seen > np.quantile(chance, 0.5 + _CONFIDENCE / 2))
    verdict: Verdict = "too few" if not enough else "drifted" if bool(moved) else "steady"
    return DriftRow(
        name, None, None, change, change - half, change + half, bound, verdict,
        f"{what} has shifted by {change:.2f} beyond chance",
    )  # fmt: skip


def _draws(
    distance: Distance,
    before: sparse.csr_matrix,
    other: tuple[sparse.csr_matrix, float],
    resamples: int,
    generator: np.random.Generator,
) -> RealArray:
    """Return distances between draws of users of two windows, (draw,): each user comes a Poisson number of times."""
    at_once = max(1, _COUNTS_AT_ONCE // before.shape[1])
    found = []
    for first in range(0, resamples, at_once):
        number = min(at_once, resamples - first)
        mixes = [
            np.asarray(generator.poisson(share, (number, BLOCKS)).astype(np.float64) @ counts)
            for counts, share in ((before, 1.0), other)
        ]
        found.append(distance(*mixes))
    return np.concatenate(found)


def _shares(counts: RealArray, smoothing: float) -> RealArray:
    raised = counts + smoothing
    return np.asarray(raised / np.maximum(raised.sum(axis=1, keepdims=True), 1e-12))


def _stability(old: RealArray, new: RealArray) -> RealArray:
    """Return the stability index, (draw,)."""
    p, q = _shares(old, 0.5), _shares(new, 0.5)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))


def _overlap_lost(old: RealArray, new: RealArray) -> RealArray:
    """Return the share of what is shown now beyond its share before, (draw,)."""
    return np.asarray(1.0 - np.minimum(_shares(old, 0.0), _shares(new, 0.0)).sum(axis=1))
