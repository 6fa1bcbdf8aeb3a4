"""Ten policies of the simulated world, and how well estimates order them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from recsys.logs.simulator import World
from recsys.logs.simulator_policies import (
    LoggingSettings,
    SegmentPolicy,
    logging_policy,
    random_policy,
    segment_policy,
)


def policies(world: World) -> dict[str, SegmentPolicy]:
    """Return the ten."""

    def made(name: str, **changes: float) -> SegmentPolicy:
        policy = logging_policy(world, LoggingSettings(**{"exploration": 0.1, **changes}))
        return segment_policy(name, policy.probability)

    best = made("sharp", temperature=0.45)
    upside = 1.0 / best.probability
    return {
        "random": random_policy(world),
        "as logged": made("as logged"),
        "cooler": made("cooler", temperature=0.6),
        "sharp": best,
        "warmer": made("warmer", temperature=1.2),
        "popularity": made("popularity", segment_weight=0.0),
        "segment": made("segment", segment_weight=1.0),
        "cool segment": made("cool segment", segment_weight=1.0, temperature=0.55),
        "half random": segment_policy("half random", 0.5 * best.probability + 0.5 / world.settings.items),
        "upside down": segment_policy("upside down", upside / upside.sum(axis=1, keepdims=True)),
    }  # fmt: skip


def ordering(
    rows: Mapping[str, Mapping[str, Any]], estimators: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return rank correlation, regret of picking by estimate and mean bias of each estimator, over policies."""
    out = {}
    names = list(rows)
    for label, kept in (
        ("all", names),
        ("not refused", [name for name in names if not rows[name]["refused"]]),
    ):
        truth = np.array([rows[name]["truth"] for name in kept])
        for estimator in estimators:
            guess = np.array([rows[name]["estimates"][estimator] for name in kept])
            out[f"{estimator}, {label}"] = {
                "policies": len(kept),
                "rank_correlation": float(stats.spearmanr(truth, guess).statistic),
                "regret": float((truth.max() - truth[int(np.argmax(guess))]) / truth.max()),
                "mean_relative_error": float(np.mean(guess / truth - 1.0)),
                "worst_relative_error": float(np.abs(guess / truth - 1.0).max()),
            }
    return out
