"""Had it been watched: bounds that hold at every moment at once, so that one may look daily and stop when they tell.

A list's gain Σ_k W_k u_k / L and its complement, u_k the rewards mapped to 0 … 1 and L the longest length, are never
negative and add up to 1 in expectation: the confidence sequences of ope/bounds.py hold for their running means,
whatever the weights, and however policies that log may learn. A difference takes half of the doubt for each side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.evaluation.ope.bounds import ConfidenceSequence, sequence_of_gains
from recsys.evaluation.ope.sums import LOGGING
from recsys.evaluation.replay.comparison import Replayed, ReplayOptions, Sample

MOMENTS: Final = 20


@dataclass(frozen=True)
class WatchRow:
    """What could be said after so many lists."""

    time: int  # microseconds
    lists: int
    value: float  # difference, by IPS
    low: float
    high: float


def watch_rows(replayed: Replayed, options: ReplayOptions, policy: str, against: str) -> Sequence[WatchRow]:
    """Return the difference of two policies as it could be read over time, evenly spaced in lists."""
    sample = replayed.sample
    order = np.argsort(sample.time, kind="stable")
    half = 0.5 + options.confidence / 2.0
    one = _sequence(sample, policy, order, half)
    other = _sequence(sample, against, order, half)
    number = len(order)
    places = np.unique(np.linspace(0, number - 1, min(MOMENTS, number) + 1).astype(np.int64)[1:])
    return [
        WatchRow(
            int(sample.time[order[place]]),
            place + 1,
            float(one.mean[place] - other.mean[place]),
            float(one.low[place] - other.high[place]),
            float(one.high[place] - other.low[place]),
        )
        for place in places.tolist()
    ]


def _sequence(
    sample: Sample, policy: str, order: np.ndarray[tuple[int], np.dtype[np.int64]], confidence: float
) -> ConfidenceSequence:
    """Return the bounds of a policy's running mean, in order of time."""
    length = sample.length[order].astype(np.float64)
    most = float(length.max(initial=1.0))
    low, high = sample.item_reward
    width = (high - low) or 1.0
    weight = np.ones(len(order)) if policy == LOGGING else sample.weight[policy][order]
    earned = sample.reward[order] if policy == LOGGING else sample.earned[policy][order]
    gain = (earned - low * weight * length) / (width * most)
    rest = (weight * length) / most - gain + (1.0 - length / most)
    found = sequence_of_gains(np.maximum(gain, 0.0), np.maximum(rest, 0.0), confidence)
    # back to rewards: lists of the rounds so far have a known mean length
    base = low * np.cumsum(length) / np.arange(1, len(length) + 1)
    scale = width * most
    return ConfidenceSequence(base + scale * found.mean, base + scale * found.low, base + scale * found.high)
