"""Retrieve -> adapt -> rank -> explore: the one object that is evaluated and served."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.catalogue import Catalogue
from recsys.mdp.state import History
from recsys.types import ExternalId, FloatArray, IntArray

ServedBy = Literal["adapted", "unadapted", "popular"]


@dataclass(frozen=True)
class LoggedEvent:
    """One event of a user as the caller or the store knows it."""

    item_id: ExternalId
    event_type: str
    value: float | None
    timestamp: float  # seconds, UTC
    session_id: str | None


@dataclass(frozen=True)
class Recommendation:
    """A served list; all arrays have shape (position,)."""

    items: IntArray
    scores: FloatArray  # adapted Q
    propensities: FloatArray  # probability of the item given the state and the items above it
    support_events: int  # events the fast weights were adapted to
    served_by: ServedBy
    policy: str  # for example "plackett_luce(temperature=0.02)"
    candidates: IntArray  # what was retrieved and could have been shown
    seed: int  # the same history and seed give the same list


class Recommender:
    """One loaded bundle, read-only and safe to share between threads."""

    catalogue: Catalogue
    version: str
    event_types: tuple[str, ...]

    def history(self, events: Sequence[LoggedEvent], attributes: dict[str, str] | None = None) -> History:
        """Return the history of events in time order; events of items unknown to the bundle are left out."""
        raise NotImplementedError

    def recommend(
        self,
        history: History,
        n: int,
        *,
        seed: int,
        exclude: Collection[int] = (),
        exclude_seen: bool = True,
        adapt: bool = True,
        greedy: bool = False,
    ) -> Recommendation:
        """Return n items for a user, best first; fewer if the catalogue left after exclusions is smaller."""
        raise NotImplementedError
