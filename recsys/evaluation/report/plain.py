"""An evaluation as plain values: what machines read, and what the same log, bundles and seed give again."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from recsys.evaluation.replay.verdict import Evaluation

VERSION = 1


def as_plain(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON-able values; numbers that are not finite become null."""
    plain: dict[str, Any] = {"format": VERSION, **_plain(asdict(evaluation))}
    return plain


def as_json(evaluation: Evaluation) -> str:
    """Return an evaluation as JSON text."""
    return json.dumps(as_plain(evaluation), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    return value
