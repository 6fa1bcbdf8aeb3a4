"""What somebody would be shown and why, without showing it: no list is logged and nothing is stored."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from recsys.columns import IMPRESSION
from recsys.explanation import Explanation, explain
from recsys.mdp.state import History
from recsys.recommender import LoggedEvent, Recommender
from recsys.types import IntArray
from serving.explained import fields_of
from serving.schemas import Asked, ExternalId

QUESTIONS = 12


class Preview(Asked):
    """Ask for somebody invented by what they like, or for a user of the store."""

    liked: Annotated[tuple[ExternalId, ...], Field(max_length=100, strict=False)] = ()
    user: ExternalId | None = None
    n: Annotated[int, Field(ge=1, le=50)] = 10


def likes(recommender: Recommender, items: Sequence[str]) -> list[LoggedEvent]:
    """Return likes as events of just now, in the order in which they were made: of the type that is worth most."""
    kind = favourite_type(recommender)
    now = time.time()
    value = 1.0 if kind in recommender.needs_value else None
    return [LoggedEvent(item, kind, value, now, "console") for item in items]


def favourite_type(recommender: Recommender) -> str:
    """Return the type of feedback that a like counts as."""
    worth = recommender.reward.base
    return max(recommender.feedback_types, key=lambda kind: worth.get(kind, 0.0))


def preview(
    recommender: Recommender, events: Sequence[LoggedEvent], attributes: dict[str, str], n: int
) -> dict[str, Any]:
    """Return the best-first list, the one without adaptation, what is behind both, and what to ask next."""
    began = time.perf_counter()
    history = recommender.history(events, attributes or None)
    adapted = recommender.recommend(history, n, seed=0, greedy=True)
    plain = recommender.recommend(history, n, seed=0, greedy=True, adapt=False)
    why = explain(recommender.ranker, history, adapted.items)
    asked = recommender.what_to_ask(history, QUESTIONS)
    policy = recommender.exploration
    return {
        "model": recommender.version,
        "adapts": why.base is not None,
        "served_by": adapted.served_by,
        "support_events": adapted.support_events,
        "exploration": policy.kind,
        "likes_as": favourite_type(recommender),
        "items": _explained(recommender, history, adapted.items, why),
        "unadapted": [
            {**item_of(recommender, item), "score": score}
            for item, score in zip(plain.items.tolist(), plain.scores.tolist(), strict=True)
        ],
        "questions": [item_of(recommender, item) for item in asked.tolist()],
        "doubt_left": _doubt_left(why),
        "took_ms": round((time.perf_counter() - began) * 1e3, 2),
    }


def told_history(recommender: Recommender, events: Sequence[LoggedEvent]) -> list[dict[str, Any]]:
    """Return what somebody did, newest first, with titles; what was merely shown is left out."""
    index_of = recommender.catalogue.index_of
    return [
        {
            **(
                item_of(recommender, index_of[event.item_id])
                if event.item_id in index_of
                else {"item_id": event.item_id, "title": "", "categories": [], "price": None}
            ),
            "event_type": event.event_type,
            "value": event.value,
            "timestamp": event.timestamp,
            "session": event.session_id,
        }
        for event in reversed(events)
        if event.event_type != IMPRESSION
    ]


def item_of(recommender: Recommender, item: int) -> dict[str, Any]:
    """Return what pages say of an item."""
    catalogue = recommender.catalogue
    price = float(catalogue.price[item])
    return {
        "item_id": catalogue.item_ids[item],
        "title": catalogue.titles[item],
        "categories": list(catalogue.categories[item]),
        "price": None if np.isnan(price) else round(price, 2),
    }


def _explained(
    recommender: Recommender, history: History, items: IntArray, why: Explanation
) -> list[dict[str, Any]]:
    told = fields_of(recommender, recommender.reasons(history, items), why)
    catalogue = recommender.catalogue
    for fields in told:
        for pull in fields["pulls"]:
            pull["title"] = catalogue.titles[catalogue.index_of[pull["item_id"]]]
    before = why.prior_deviation
    return [
        {
            **item_of(recommender, item),
            "score": float(why.score[place]),
            "prior_deviation": None if before is None else float(before[place]),
            **told[place],
        }
        for place, item in enumerate(items.tolist())
    ]


def _doubt_left(why: Explanation) -> float | None:
    """Return the mean share of the prior's deviation that is left, 1 before any event."""
    if why.deviation is None or why.prior_deviation is None or not len(why.deviation):
        return None
    return float(np.mean(why.deviation / np.maximum(why.prior_deviation, 1e-12)))
