"""The impression line: one row per answered request, from which that request can be answered again."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from recsys.recommender import LoggedEvent, Recommendation, Recommender
from recsys.types import ExternalId
from serving.engine import Ask, Served, rank

_FASTEST = 1  # deflate level


@dataclass(frozen=True)
class Impression:
    """What was shown to whom, drawn how, from what."""

    recommendation_id: str
    timestamp_us: int
    ask: Ask
    model: str
    policy: str
    served_by: str
    support_events: int
    item_ids: tuple[ExternalId, ...]  # by position
    scores: tuple[float, ...]
    propensities: tuple[float, ...]  # probability of the item given the state and the items above it
    candidates: tuple[ExternalId, ...]  # what could have been shown


def impression_of(
    recommendation_id: str, timestamp_us: int, recommender: Recommender, served: Served
) -> Impression:
    """Return the line of an answer."""
    recommendation = served.recommendation
    catalogue = recommender.catalogue
    return Impression(
        recommendation_id=recommendation_id,
        timestamp_us=timestamp_us,
        ask=served.ask,
        model=recommender.version,
        policy=recommendation.policy,
        served_by=recommendation.served_by,
        support_events=recommendation.support_events,
        item_ids=tuple(catalogue.ids(recommendation.items)),
        scores=tuple(recommendation.scores.tolist()),
        propensities=tuple(recommendation.propensities.tolist()),
        candidates=tuple(catalogue.ids(recommendation.candidates)),
    )


def to_row(line: Impression) -> tuple[object, ...]:
    """Return the values of live_tables.IMPRESSION_COLUMNS."""
    ask = line.ask
    slate = orjson.dumps(list(zip(line.item_ids, line.scores, line.propensities, strict=True)))
    request = orjson.dumps(
        {
            "n": ask.n,
            "rung": ask.rung,
            "exclude_seen": ask.exclude_seen,
            "exclude": list(ask.exclude),
            "attributes": ask.attributes,
            "events": [[e.item_id, e.event_type, e.value, e.timestamp, e.session_id] for e in ask.events],
            "candidates": line.candidates,
        }
    )
    return (
        line.recommendation_id,
        ask.user,
        ask.session,
        line.timestamp_us,
        line.model,
        line.policy,
        line.served_by,
        ask.seed,
        line.support_events,
        slate.decode(),
        zlib.compress(request, _FASTEST),
    )


def from_row(row: Sequence[Any]) -> Impression:
    """Return the line that a row of live_tables.IMPRESSION_COLUMNS holds."""
    (
        recommendation_id,
        user,
        session,
        timestamp_us,
        model,
        policy,
        served_by,
        seed,
        support_events,
        slate,
        blob,
    ) = row
    request = orjson.loads(zlib.decompress(blob))
    shown = orjson.loads(slate)
    ask = Ask(
        user=user,
        session=session,
        n=request["n"],
        seed=seed,
        events=tuple(LoggedEvent(*event) for event in request["events"]),
        attributes=request["attributes"],
        exclude=tuple(request["exclude"]),
        exclude_seen=request["exclude_seen"],
        rung=request["rung"],
    )
    return Impression(
        recommendation_id=recommendation_id,
        timestamp_us=timestamp_us,
        ask=ask,
        model=model,
        policy=policy,
        served_by=served_by,
        support_events=support_events,
        item_ids=tuple(item for item, _, _ in shown),
        scores=tuple(score for _, score, _ in shown),
        propensities=tuple(propensity for _, _, propensity in shown),
        candidates=tuple(request["candidates"]),
    )


def replay(recommender: Recommender, line: Impression) -> Recommendation:
    """Return what the line's request is answered today; with the line's bundle, exactly what was shown."""
    if recommender.version != line.model:
        raise ValueError(
            f"recommendation {line.recommendation_id} was served by {line.model}, not {recommender.version}; "
            "load that version to replay it"
        )
    return rank(recommender, line.ask)
