"""What bundle.json says: what a history is made of, how lists are drawn, and what ranks.

    "ranker": "q"        an adapted student over a candidate index
    "ranker": "policy"   a fitted baseline that scores the whole catalogue (policy.json names its kind)

Format 1 is that of bundles from before the choice: they hold a student.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from recsys.config import ExplorationConfig, Impressions, IndexConfig, RewardConfig, StateConfig
from recsys.errors import UserError
from recsys.models.q_network import NetworkShape

FORMAT = 2
READ = (1, FORMAT)
DESCRIPTION = "bundle.json"


@dataclass(frozen=True, kw_only=True)
class BundleInfo(ABC):
    """What every bundle says."""

    ranker: ClassVar[str]

    state: StateConfig
    event_types: tuple[str, ...]
    attributes: tuple[str, ...]
    attribute_values: tuple[tuple[str, ...], ...] = field(repr=False)
    reward: RewardConfig
    exploration: ExplorationConfig  # in units of Q, or of the spread of a baseline's list
    impressions: Impressions = "apart"  # "actions": a history holds what was shown without response too

    def to_json(self) -> str:
        """Return the text of bundle.json."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "ranker": self.ranker,
            "event_types": self.event_types,
            "attributes": self.attributes,
            "attribute_values": self.attribute_values,
            "impressions": self.impressions,
            **self._own(),
        }
        for name in ("state", "reward", "exploration"):
            plain[name] = getattr(self, name).model_dump(mode="json")
        return json.dumps(plain, indent=2, sort_keys=True) + "\n"

    @abstractmethod
    def _own(self) -> dict[str, Any]:
        """Return what one kind of bundle says besides."""


@dataclass(frozen=True, kw_only=True)
class QInfo(BundleInfo):
    """What a bundle with a student says besides."""

    ranker = "q"

    shape: NetworkShape
    discount: float
    index: IndexConfig

    def _own(self) -> dict[str, Any]:
        return {
            "shape": asdict(self.shape),
            "discount": self.discount,
            "index": self.index.model_dump(mode="json"),
        }


@dataclass(frozen=True, kw_only=True)
class PolicyInfo(BundleInfo):
    """What a bundle with a baseline says besides."""

    ranker = "policy"

    candidates: int  # best items that a list is drawn from

    def _own(self) -> dict[str, Any]:
        return {"candidates": self.candidates}


def parse_info(text: str, where: Path) -> QInfo | PolicyInfo:
    """Parse bundle.json; raises UserError for another format or ranker."""
    raw = json.loads(text)
    if raw.get("format") not in READ:
        raise UserError(
            f"{where} has bundle format {raw.get('format')}, this version reads {' and '.join(map(str, READ))}; "
            "publish it again"
        )
    shared: dict[str, Any] = {
        "state": StateConfig(**raw["state"]),
        "event_types": tuple(raw["event_types"]),
        "attributes": tuple(raw["attributes"]),
        "attribute_values": tuple(tuple(values) for values in raw["attribute_values"]),
        "reward": RewardConfig(**raw["reward"]),
        "exploration": ExplorationConfig(**raw["exploration"]),
        "impressions": raw.get("impressions", "apart"),  # bundles of before the choice
    }
    ranker = "q" if raw["format"] == 1 else raw.get("ranker")
    if ranker == PolicyInfo.ranker:
        return PolicyInfo(**shared, candidates=int(raw["candidates"]))
    if ranker != QInfo.ranker:
        raise UserError(
            f"{where} names the ranker {ranker!r}, this version knows q and policy; publish it again"
        )
    return QInfo(
        **shared,
        shape=NetworkShape(**{**raw["shape"], "attribute_sizes": tuple(raw["shape"]["attribute_sizes"])}),
        discount=raw["discount"],
        index=IndexConfig(**raw["index"]),
    )


def ranker_name(folder: Path) -> str:
    """Return what ranks in a bundle, for people: "q" or the kind of its baseline; empty if it cannot be read."""
    try:
        raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if raw.get("ranker", QInfo.ranker) == QInfo.ranker:
            return QInfo.ranker
        return str(json.loads((folder / "policy.json").read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
