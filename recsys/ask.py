"""Everything a list depends on besides the bundle, and the text in which a log keeps it.

The endpoint writes it with every list (live_tables.IMPRESSIONS_TABLE, column `request`); replay reads it again, so that
a policy is asked what the endpoint was asked: the same filter, the same catalogue, the same draws.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from recsys.candidates.filters import ItemFilter
from recsys.config import ExplorationConfig
from recsys.logged_event import LoggedEvent
from recsys.ranker import ServedBy
from recsys.types import ExternalId

_FASTEST: Final = 1  # deflate level
_WORTH_DEFLATING: Final = 2_048  # bytes; what is shorter costs more time than it saves room
_DEFLATED: Final = b"x"  # what a deflated text begins with; JSON begins with {


@dataclass(frozen=True)
class Ask:
    """Everything a list depends on besides the bundle: the same ask gives the same list."""

    user: str
    session: str | None
    n: int
    seed: int
    events: Sequence[LoggedEvent]  # oldest first
    attributes: dict[str, str]
    exclude: Sequence[ExternalId]
    exclude_seen: bool
    rung: ServedBy = "adapted"  # which step of the ladder answers
    wanted: ItemFilter | None = None
    among: tuple[ExternalId, ...] | None = None  # the caller's own candidates
    exploration: ExplorationConfig | None = None  # instead of the bundle's
    revision: int = 0  # of the catalogue


def told_of(ask: Ask, *, with_events: bool = True) -> dict[str, Any]:
    """Return an ask as JSON-able values, without what has a column of its own: user, session and seed."""
    told: dict[str, Any] = {
        "n": ask.n,
        "rung": ask.rung,
        "exclude_seen": ask.exclude_seen,
        "revision": ask.revision,
        "events": [list(event) for event in ask.events] if with_events else None,
    }
    if ask.exclude:
        told["exclude"] = list(ask.exclude)
    if ask.attributes:
        told["attributes"] = ask.attributes
    if ask.wanted is not None:
        told["filter"] = ask.wanted.model_dump(exclude_defaults=True)
    if ask.among is not None:
        told["among"] = list(ask.among)
    if ask.exploration is not None:
        told["exploration"] = ask.exploration.model_dump()
    return told


def ask_of(told: Mapping[str, Any], *, user: str, session: str | None, seed: int) -> Ask:
    """Return the ask that `told_of` wrote; without events where none were kept."""
    exploration, among = told.get("exploration"), told.get("among")
    return Ask(
        user=user,
        session=session,
        n=told["n"],
        seed=seed,
        events=tuple(LoggedEvent(*event) for event in told.get("events") or ()),
        attributes=told.get("attributes", {}),
        exclude=tuple(told.get("exclude", ())),
        exclude_seen=told["exclude_seen"],
        rung=told["rung"],
        wanted=ItemFilter.model_validate(told["filter"]) if "filter" in told else None,
        among=None if among is None else tuple(among),
        exploration=None if exploration is None else ExplorationConfig(**exploration),
        revision=told.get("revision", 0),
    )


def packed(told: Mapping[str, Any]) -> bytes:
    """Return what was asked as bytes: JSON, deflated where that is worth its time."""
    text = orjson.dumps(told)
    return text if len(text) < _WORTH_DEFLATING else zlib.compress(text, _FASTEST)


def unpacked(text: bytes) -> dict[str, Any]:
    """Return what `packed` wrote."""
    found: dict[str, Any] = orjson.loads(zlib.decompress(text) if text.startswith(_DEFLATED) else text)
    return found
