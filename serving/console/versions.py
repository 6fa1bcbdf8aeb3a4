"""What the registry knows of versions: what ranks in each, and what it reached on cold test users."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.artifacts.bundle_info import ranker_name

EVALUATION = "evaluation.json"


def told_versions(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return the versions, newest first; one whose evaluation cannot be read has none."""
    return [
        {"version": version, "ranker": ranker_name(folder), **_reached(folder / EVALUATION)}
        for version, folder in reversed(list(folders.items()))
    ]


def _reached(path: Path) -> dict[str, Any]:
    """Return NDCG with its interval by number of events, of what the version serves."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        policies = told["policies"]
        curve = policies["adapted"] if "adapted" in policies else next(iter(policies.values()))
        ndcg = {int(shots): figures["ndcg"] for shots, figures in curve.items()}
        return {
            "metric": f"NDCG@{int(told['cutoff'])}",
            "users": told.get("users"),
            "curve": [
                {"events": shots, **{name: float(ndcg[shots][name]) for name in ("mean", "low", "high")}}
                for shots in sorted(ndcg)
            ],
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return {"metric": None, "users": None, "curve": []}
