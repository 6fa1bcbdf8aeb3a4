"""Asks one recommender for one list: the ladder adapted, unadapted, popular."""

import logging
import time
from dataclasses import dataclass, replace

import numpy as np

from recsys.ask import Ask as Ask
from recsys.columns import IMPRESSION
from recsys.recommender import LoggedEvent, Recommendation, Recommender, ServedBy

log = logging.getLogger(__name__)

_BREAKDOWNS = (
    ArithmeticError,
    RuntimeError,
    np.linalg.LinAlgError,
)  # torch raises RuntimeError, or a kind of it


_MEMORY = 0.05  # weight of the newest cost


@dataclass(frozen=True)
class Served:
    """A list, the ask with the rung that gave it, and why a higher rung did not."""

    recommendation: Recommendation
    ask: Ask
    fallback: str | None


class Costs:
    """What the rungs of the ladder have cost lately, so that one that would miss a deadline is not begun."""

    def __init__(self) -> None:
        self._seconds: dict[ServedBy, float] = {}

    def expected_s(self, rung: ServedBy) -> float:
        """Return a guess from above: twice the moving average."""
        return 2.0 * self._seconds.get(rung, 0.0)

    def observe(self, rung: ServedBy, seconds: float) -> None:
        """Take in what a rung cost."""
        before = self._seconds.get(rung, seconds)
        self._seconds[rung] = before + _MEMORY * (seconds - before)

    def relax(self, rung: ServedBy) -> None:
        """Forget a little of a rung that was left out, so that it is tried again one day."""
        if rung in self._seconds:
            self._seconds[rung] *= 1.0 - _MEMORY


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


def answer(
    recommender: Recommender,
    ask: Ask,
    *,
    seconds_left: float | None = None,
    costs: Costs | None = None,
    fallback: str | None = None,
) -> Served:
    """Return the list of the highest rung of the recommender's ladder that holds, and that the time left allows.

    `fallback` is why a higher rung is out of the question already.
    """
    last = recommender.ladder[-1]
    until = None if seconds_left is None else time.perf_counter() + seconds_left
    for rung in recommender.ladder:
        began = time.perf_counter()
        if (
            rung != last
            and until is not None
            and costs is not None
            and began + costs.expected_s(rung) > until
        ):
            costs.relax(rung)
            fallback = fallback or f"{rung}_too_late"
            continue
        tried = ask if ask.rung == rung else replace(ask, rung=rung)
        try:
            recommendation = rank(recommender, tried)
        except _BREAKDOWNS:
            if rung == last:
                raise
            log.exception("the %s rung failed; answering from the next", rung)
            fallback = fallback or f"{rung}_failed"
            continue
        if costs is not None:
            costs.observe(rung, time.perf_counter() - began)
        if rung == last or _sound(recommendation):
            break
        fallback = fallback or f"{rung}_unsound"
    return Served(recommendation, tried, fallback)


def warm_up(recommender: Recommender) -> None:
    """Rank once for an invented user, so that no real one waits for what libraries do on first use."""
    item_id, event_type = recommender.catalogue.item_ids[0], recommender.feedback_types[0]
    event = LoggedEvent(item_id, event_type, None, 0.0, None)
    for rung in recommender.ladder:
        rank(recommender, Ask("", None, 1, 0, (event,), {}, (), exclude_seen=False, rung=rung))


def _sound(recommendation: Recommendation) -> bool:
    propensities = recommendation.propensities
    return bool(
        np.isfinite(recommendation.scores).all()
        and (propensities > 0).all()
        and (propensities <= 1 + 1e-6).all()
    )
