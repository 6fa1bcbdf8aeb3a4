"""Asks the current bundle for one list: one reference, read once per request, so no answer mixes versions."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.recommender import LoggedEvent, Recommendation, Recommender
from recsys.types import ExternalId

log = logging.getLogger(__name__)


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
    adapt: bool = True


@dataclass(frozen=True)
class Served:
    """A list, the ask it finally answers and why that is not the ask as it came."""

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
    """Return the list that a recommender gives to an ask; a pure function of both."""
    index_of = recommender.catalogue.index_of
    known_types = frozenset(recommender.event_types)  # the store may hold events of an older bundle's types
    history = recommender.history(
        [event for event in ask.events if event.event_type in known_types], ask.attributes or None
    )
    return recommender.recommend(
        history,
        ask.n,
        seed=ask.seed,
        exclude=[index_of[item_id] for item_id in ask.exclude if item_id in index_of],
        exclude_seen=ask.exclude_seen,
        adapt=ask.adapt,
    )


def answer(recommender: Recommender, ask: Ask) -> Served:
    """Return the adapted list or, if adaptation breaks down on this user's events, the unadapted one."""
    try:
        recommendation = rank(recommender, ask)
        if _sound(recommendation):
            return Served(recommendation, ask, None)
        reason = "unsound_scores"
    except (
        ArithmeticError,
        RuntimeError,
        np.linalg.LinAlgError,
    ):  # torch raises RuntimeError, or a kind of it
        log.exception("adaptation failed; answering unadapted")
        reason = "adaptation_failed"
    unadapted = replace(ask, adapt=False)
    return Served(rank(recommender, unadapted), unadapted, reason)


def _sound(recommendation: Recommendation) -> bool:
    propensities = recommendation.propensities
    return bool(
        np.isfinite(recommendation.scores).all()
        and (propensities > 0).all()
        and (propensities <= 1 + 1e-6).all()
    )
