"""Asks the current bundle for one list: one reference, read once per request, so no answer mixes versions."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.candidates.filters import ItemFilter
from recsys.columns import IMPRESSION
from recsys.config import ExplorationConfig
from recsys.recommender import LoggedEvent, Recommendation, Recommender, ServedBy
from recsys.types import ExternalId

log = logging.getLogger(__name__)

_BREAKDOWNS = (
    ArithmeticError,
    RuntimeError,
    np.linalg.LinAlgError,
)  # torch raises RuntimeError, or a kind of it


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


@dataclass(frozen=True)
class Served:
    """A list, the ask with the rung that gave it, and why a higher rung did not."""

    recommendation: Recommendation
    ask: Ask
    fallback: str | None


class Engine:
    """Holds the recommender in use."""

    def __init__(self, recommender: Recommender | None = None) -> None:
        self._recommender = recommender

    @property
    def current(self) -> Recommender | None:
        """The recommender in use; read it once per request."""
        return self._recommender

    def activate(self, recommender: Recommender) -> None:
        """Use another recommender from the next request on."""
        self._recommender = recommender


def rank(recommender: Recommender, ask: Ask) -> Recommendation:
    """Return the list that a recommender gives to an ask on its rung; a pure function of both."""
    index_of = recommender.catalogue.index_of
    exclude = {index_of[item_id] for item_id in ask.exclude if item_id in index_of}
    allowed = recommender.allowed(ask.wanted, ask.among)
    if ask.rung == "popular":
        seen = {
            index_of[event.item_id]
            for event in ask.events
            if event.item_id in index_of and event.event_type != IMPRESSION
        }
        return recommender.popular(
            ask.n, seed=ask.seed, exclude=exclude | seen if ask.exclude_seen else exclude, allowed=allowed
        )
    return recommender.recommend(
        recommender.history(ask.events, ask.attributes or None),
        ask.n,
        seed=ask.seed,
        exclude=exclude,
        exclude_seen=ask.exclude_seen,
        adapt=ask.rung == "adapted",
        memory=True,  # it costs nothing more; only the posterior is left out on the rung below
        exploration=ask.exploration,
        allowed=allowed,
    )


def answer(recommender: Recommender, ask: Ask) -> Served:
    """Return the list of the highest rung of the recommender's ladder that holds."""
    fallback: str | None = None
    last = recommender.ladder[-1]
    for rung in recommender.ladder:
        tried = replace(ask, rung=rung)
        try:
            recommendation = rank(recommender, tried)
        except _BREAKDOWNS:
            if rung == last:
                raise
            log.exception("the %s rung failed; answering from the next", rung)
            fallback = fallback or f"{rung}_failed"
            continue
        if rung == last or _sound(recommendation):
            break
        fallback = fallback or f"{rung}_unsound"
    return Served(recommendation, tried, fallback)


def warm_up(recommender: Recommender) -> None:
    """Rank once for an invented user, so that no real one waits for what libraries do on first use."""
    item_id, event_type = recommender.catalogue.item_ids[0], recommender.feedback_types[0]
    event = LoggedEvent(item_id, event_type, None, 0.0, None)
    answer(recommender, Ask("", None, 1, 0, (event,), {}, (), exclude_seen=False))


def _sound(recommendation: Recommendation) -> bool:
    propensities = recommendation.propensities
    return bool(
        np.isfinite(recommendation.scores).all()
        and (propensities > 0).all()
        and (propensities <= 1 + 1e-6).all()
    )
