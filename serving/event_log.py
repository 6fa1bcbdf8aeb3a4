"""The impression line: one row per answered request, from which that request can be answered again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from recsys.ask import Ask, ask_of, packed, told_of, unpacked
from recsys.logs.live_tables import NOBODY
from recsys.recommender import Recommendation, Recommender
from recsys.types import ExternalId
from serving.engine import Served, rank


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
    candidates: int  # how many could have been shown
    scenario: str | None = None
    variant: str | None = None
    events_kept: bool = (
        True  # not those of a session whose events came inline: such a list cannot be replayed
    )
    notes: Mapping[str, Any] = field(
        default_factory=dict
    )  # context, the shadow's difference, the list before


def impression_of(
    recommendation_id: str,
    timestamp_us: int,
    recommender: Recommender,
    served: Served,
    **more: Any,
) -> Impression:
    """Return the line of an answer; `more` are fields of it that the list does not depend on."""
    recommendation = served.recommendation
    return Impression(
        recommendation_id=recommendation_id,
        timestamp_us=timestamp_us,
        ask=served.ask,
        model=recommender.version,
        policy=recommendation.policy,
        served_by=recommendation.served_by,
        support_events=recommendation.support_events,
        item_ids=tuple(recommender.catalogue.ids(recommendation.items)),
        scores=tuple(recommendation.scores.tolist()),
        propensities=tuple(recommendation.propensities.tolist()),
        candidates=len(recommendation.candidates),
        **more,
    )


def to_row(line: Impression) -> tuple[object, ...]:
    """Return the values of live_tables.IMPRESSION_COLUMNS."""
    ask = line.ask
    slate = orjson.dumps(list(zip(line.item_ids, line.scores, line.propensities, strict=True)))
    asked = told_of(ask, with_events=line.events_kept)
    if line.notes:
        asked["notes"] = line.notes
    return (
        line.recommendation_id,
        ask.user or NOBODY,
        ask.session,
        line.timestamp_us,
        line.model,
        line.policy,
        line.served_by,
        ask.seed,
        line.support_events,
        slate.decode(),
        packed(asked),
        line.scenario,
        line.variant,
        line.candidates,
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
        scenario,
        variant,
        candidates,
    ) = row
    request = unpacked(bytes(blob))
    shown = orjson.loads(slate)
    ask = ask_of(request, user=user, session=session, seed=seed)
    old = request.get("candidates")  # lines of before 0002 name them
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
        candidates=candidates if candidates is not None else len(old or ()),
        scenario=scenario,
        variant=variant,
        events_kept=request["events"] is not None,
        notes=request.get("notes", {}),
    )


def replay(recommender: Recommender, line: Impression) -> Recommendation:
    """Return what the line's request is answered today; with the line's bundle and catalogue, exactly what was shown.

    Raises ValueError if the recommender is not of the line's version, its catalogue is not at the line's revision (see
    `at_revision`), or the line does not hold the events that were read.
    """
    if recommender.version != line.model:
        raise ValueError(
            f"recommendation {line.recommendation_id} was served by {line.model}, not {recommender.version}; "
            "load that version to replay it"
        )
    if recommender.catalogue.revision != line.ask.revision:
        raise ValueError(
            f"recommendation {line.recommendation_id} was served from the catalogue at revision {line.ask.revision}, "
            f"not {recommender.catalogue.revision}; apply the item changes up to it to a fresh load of {line.model}"
        )
    if not line.events_kept:
        raise ValueError(
            f"recommendation {line.recommendation_id} was served to a session whose events came inline and were not "
            "kept; send them again to /v1/session/recommend instead"
        )
    return rank(recommender, line.ask)
