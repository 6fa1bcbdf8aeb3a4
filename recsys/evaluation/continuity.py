"""What live users would notice when one bundle follows another over the same item indices.

Items: how far vectors e_i and features φ(i) of items that somebody had have moved, over their mean length. Users: how
much of the list before is in the list after (overlap@n), whether the first item is still first, and how far the
Q-values of the items that both lists hold have moved, relative to the spread of Q within the list before.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from recsys.artifacts.bundle import QBundle
from recsys.mdp.state import History
from recsys.recommender import Recommender

LENGTH = 10  # items of a list


@dataclass(frozen=True)
class Continuity:
    """Figures over known items and some known users; NaN where there are none."""

    items: int  # that training histories had before
    new_items: int  # that they have since
    largest_vector_move: float  # over known items, |Δe_i| / mean |e_i|
    mean_vector_move: float
    largest_feature_move: float  # likewise of φ(i)
    users: int
    overlap: float  # mean share of the list before that is in the list after
    least_overlap: float  # of the tenth of users with the least
    same_first: float  # share of users whose first item is the same
    q_move: float  # mean |ΔQ| of items in both lists, over the mean spread of Q in the list before

    def plain(self) -> dict[str, float | int]:
        """Return the figures by name."""
        return asdict(self)


def continuity(before: QBundle, after: QBundle, histories: Sequence[History]) -> Continuity:
    """Compare two bundles, the later with the items of the earlier in front; lists are greedy and adapted."""
    had = torch.from_numpy(np.flatnonzero(before.popularity > 0))
    known = len(had)
    moved = _moves(before.table.vectors[had], after.table.vectors[had])
    features = _moves(before.table.features[had], after.table.features[had])
    one, other = Recommender(before), Recommender(after)
    overlap, first, shifts, spreads = [], [], [], []
    for row, history in enumerate(histories):
        was = one.recommend(history, LENGTH, seed=row, greedy=True)
        now = other.recommend(history, LENGTH, seed=row, greedy=True)
        if not len(was.items):
            continue
        both, here, there = np.intersect1d(was.items, now.items, return_indices=True)
        overlap.append(len(both) / len(was.items))
        first.append(bool(len(now.items)) and was.items[0] == now.items[0])
        spreads.append(float(np.ptp(was.scores)))
        if len(both):
            shifts.append(float(np.abs(was.scores[here] - now.scores[there]).mean()))
    return Continuity(
        items=known,
        new_items=int((after.popularity > 0).sum()) - known,
        largest_vector_move=float(moved.max()) if known else float("nan"),
        mean_vector_move=float(moved.mean()) if known else float("nan"),
        largest_feature_move=float(features.max()) if known else float("nan"),
        users=len(overlap),
        overlap=_mean(overlap),
        least_overlap=float(np.quantile(overlap, 0.1)) if overlap else float("nan"),
        same_first=_mean(first),
        q_move=_mean(shifts) / max(_mean(spreads), 1e-12),
    )


def _moves(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return |Δ| of each row over the mean length of a row, (item,)."""
    return torch.as_tensor((after - before).norm(dim=1) / before.norm(dim=1).mean().clamp(min=1e-12))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
