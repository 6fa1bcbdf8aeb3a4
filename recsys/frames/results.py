"""Results of ranking as frames: one row per user, and the curves with their intervals made of them."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from recsys.errors import UserError
from recsys.evaluation.intervals import bootstrap_mean
from recsys.evaluation.ranking import QuerySets, hits, ndcg, recall
from recsys.randomness import numpy_generator
from recsys.types import IntArray

METRICS: Final = ("ndcg", "recall")
_RESAMPLES: Final = 2_000


def per_user(
    lists: Mapping[str, Mapping[int, IntArray]], query: QuerySets, users: Sequence[object] | None = None
) -> pd.DataFrame:
    """Return one row per policy, number of shots and user: policy, shots, user, ndcg, recall.

    `lists` holds the ranked items (user, position) of each policy after each number of support events.
    """
    named = np.arange(len(query)) if users is None else np.asarray(users)
    if len(named) != len(query):
        raise UserError(
            f"{len(named):,} users are named for {len(query):,} queries, must be as many; name each"
        )
    parts = []
    for policy, by_shots in lists.items():
        for shots, ranked in by_shots.items():
            hit = hits(ranked, query)
            parts.append(
                pd.DataFrame(
                    {
                        "policy": policy,
                        "shots": shots,
                        "user": named,
                        "ndcg": ndcg(hit, query.sizes),
                        "recall": recall(hit, query.sizes),
                    }
                )
            )
    if not parts:
        return pd.DataFrame(columns=["policy", "shots", "user", *METRICS])
    return pd.concat(parts, ignore_index=True)


def curve(
    results: pd.DataFrame, metric: str = "ndcg", confidence: float = 0.95, resamples: int = _RESAMPLES
) -> pd.DataFrame:
    """Return the mean over users with its bootstrap interval: policy, shots, users, mean, low, high."""
    rows = []
    for _, group in results.groupby(["policy", "shots"], sort=False):
        policy, shots = group["policy"].iloc[0], group["shots"].iloc[0]
        rows.append((policy, shots, len(group), *_interval(group[metric], f"{shots}", confidence, resamples)))
    return pd.DataFrame(rows, columns=["policy", "shots", "users", "mean", "low", "high"])


def differences_by_user(
    results: pd.DataFrame,
    policy: str,
    metric: str = "ndcg",
    confidence: float = 0.95,
    resamples: int = _RESAMPLES,
) -> pd.DataFrame:
    """Return what one policy has more than each other one, paired user by user: against, shots, mean, low, high."""
    wide = results.pivot(index="user", columns=["policy", "shots"], values=metric)
    if policy not in wide.columns.get_level_values(0):
        have = ", ".join(dict.fromkeys(results["policy"]))
        raise UserError(f"no results of {policy!r}; there are those of {have or 'nobody'}")
    rows = []
    for other, shots in results[["policy", "shots"]].drop_duplicates().to_numpy().tolist():
        if other != policy and (policy, shots) in wide.columns:
            gap = (wide[policy, shots] - wide[other, shots]).dropna()
            rows.append((other, shots, *_interval(gap, f"{other}-{shots}", confidence, resamples)))
    return pd.DataFrame(rows, columns=["against", "shots", "mean", "low", "high"])


def _interval(
    values: "pd.Series[float]", name: str, confidence: float, resamples: int
) -> tuple[float, float, float]:
    """Return (mean, low, high); the same name draws the same resamples."""
    got = bootstrap_mean(
        values.to_numpy(np.float32), resamples, confidence, numpy_generator(0, f"frame-{name}")
    )
    return got.mean, got.low, got.high
