"""Two versions that served different users at the same time: what each earned, and the difference. No weights.

d = Σ r / n of one − Σ r / n of the other,     users as clusters, of whom nobody is in both
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.evaluation.intervals import Interval
from recsys.evaluation.replay.attribution import attribute
from recsys.evaluation.replay.log import EventSource, requests_of
from recsys.evaluation.replay.tally import Vocabulary
from recsys.types import RealArray


@dataclass(frozen=True)
class Arms:
    """What two versions earned a list."""

    lists: tuple[int, int]
    users: tuple[int, int]
    mean: tuple[float, float]
    difference: Interval

    def plain(self) -> Mapping[str, object]:
        """Return plain values."""
        gap = self.difference
        return {
            "lists": self.lists,
            "users": self.users,
            "mean": self.mean,
            "difference": {"value": gap.mean, "low": gap.low, "high": gap.high},
        }


def compare_arms(
    source: EventSource,
    versions: tuple[str, str],
    reward: RewardConfig,
    window_s: float,
    confidence: float = 0.95,
) -> Arms:
    """Return what lists of two versions earned and the difference, first − second.

    Where a user has lists of both, as when a person asks for a variant, those of the second count alone.
    """
    sums: tuple[list[RealArray], list[RealArray]] = ([], [])  # (user, (lists, reward)) of each version
    vocabulary = Vocabulary()
    for frame in source:
        codes = vocabulary.codes(frame[c.ITEM_ID])
        earned = attribute(frame, codes, reward, window_s).reward
        lists = requests_of(frame, codes, source=source)
        if not len(lists):
            continue
        total = np.where(lists.row >= 0, earned[np.maximum(lists.row, 0)], 0.0).sum(axis=1)
        made_by = np.array([version.split(" ")[0] for version in lists.version], object)
        users, place = np.unique(np.array(lists.who, object).astype(str), return_inverse=True)
        by_version = [
            np.stack(
                [
                    np.bincount(place[made_by == version], minlength=len(users)).astype(np.float64),
                    np.bincount(place[made_by == version], total[made_by == version], minlength=len(users)),
                ],
                axis=1,
            )
            for version in versions
        ]
        by_version[0] = by_version[0] * (by_version[1][:, :1] == 0)
        for kept, found in zip(sums, by_version, strict=True):
            kept.append(found[found[:, 0] > 0])
    one, other = (np.concatenate(parts) if parts else np.zeros((0, 2)) for parts in sums)
    lists_of = int(one[:, 0].sum()), int(other[:, 0].sum())
    users_of = len(one), len(other)
    if min(users_of) < 2:
        blind = Interval(float("nan"), -np.inf, np.inf)
        return Arms(lists_of, users_of, (_mean(one), _mean(other)), blind)
    gap = _mean(one) - _mean(other)
    variances = [_variance(each) for each in (one, other)]
    error = float(np.sqrt(sum(variances)))
    # Welch & Satterthwaite
    freedom = sum(variances) ** 2 / max(
        sum(v**2 / (n - 1) for v, n in zip(variances, users_of, strict=True)), 1e-300
    )
    half = float(stats.t.ppf(0.5 + confidence / 2.0, max(freedom, 1.0))) * error
    return Arms(lists_of, users_of, (_mean(one), _mean(other)), Interval(gap, gap - half, gap + half))


def _mean(sums: RealArray) -> float:
    return float(sums[:, 1].sum() / max(sums[:, 0].sum(), 1.0))


def _variance(sums: RealArray) -> float:
    """Return the squared clustered error of a mean over lists."""
    influence = (sums[:, 1] - _mean(sums) * sums[:, 0]) / sums[:, 0].sum()
    return float(len(sums) / (len(sums) - 1) * (influence**2).sum())
