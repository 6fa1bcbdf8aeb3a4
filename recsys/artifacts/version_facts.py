"""What a version says of itself, for people who choose among versions: who made it, when, and how good it was."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from recsys.artifacts.bundle_info import ranker_name
from recsys.artifacts.registry import CHECKSUMS

_SHOTS: Final = 5  # quality is told after as many events, or the next fewer that were measured


@dataclass(frozen=True)
class VersionFacts:
    """What is known of a version; empty text where nothing is."""

    ranker: str  # "q" or the kind of a baseline
    run: str  # name of the run that made it
    published: str  # day, UTC
    quality: str  # NDCG on cold users


def version_facts(folder: Path) -> VersionFacts:
    """Return what the files of a version say."""
    return VersionFacts(ranker_name(folder), run_name(folder), _published(folder), _quality(folder))


def run_name(folder: Path) -> str:
    """Return the name of the run that made a version; empty if it does not say."""
    return str(_told(folder / "run.json").get("name", ""))


def _published(folder: Path) -> str:
    try:
        written = (folder / CHECKSUMS).stat().st_mtime
    except OSError:
        return ""
    return datetime.fromtimestamp(written, UTC).date().isoformat()


def _quality(folder: Path) -> str:
    told = _told(folder / "evaluation.json")
    try:
        policies = told["policies"]
        by_shots = policies["adapted"] if "adapted" in policies else next(iter(policies.values()))
        shots = max(int(k) for k in by_shots if int(k) <= _SHOTS)
        mean = float(by_shots[str(shots)]["ndcg"]["mean"])
    except (LookupError, TypeError, ValueError, StopIteration):
        return ""
    return f"NDCG@{told.get('cutoff', '?')} {mean:.3f} after {shots}"


def _told(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}
