"""What is kept of a user, and its deletion: deleting a user is deleting their events, impressions and attributes."""

from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from serving.dependencies import CurrentService
from serving.schemas import ForgottenAnswer, UserEventsAnswer, errors
from serving.store import EventRow

router = APIRouter(tags=["users"])


@router.get(
    "/v1/users/{user:path}/events",
    response_model=UserEventsAnswer,
    responses=errors(422, 500, 503),
    summary="A user's newest events",
)
async def events_of(
    service: CurrentService, user: str, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> Response:
    """Return what the store keeps, newest first; empty for a user never seen."""
    rows = await service.store.events(user, limit)
    attributes = await service.store.attributes(user)
    content = orjson.dumps({"user": user, "attributes": attributes, "events": [_shown(row) for row in rows]})
    return Response(content, media_type="application/json")


@router.delete(
    "/v1/users/{user:path}",
    response_model=ForgottenAnswer,
    responses=errors(422, 500, 503),
    summary="Forget a user",
)
async def forget(service: CurrentService, user: str) -> Response:
    """Delete a user's events, impressions and attributes; nothing else is kept of a user."""
    gone = await service.store.forget(user)
    content = orjson.dumps({"user": user, "events": gone.events, "impressions": gone.impressions})
    return Response(content, media_type="application/json")


def _shown(row: EventRow) -> dict[str, object]:
    seconds, microseconds = divmod(row.timestamp_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    return {
        "event_id": row.event_id,
        "session": row.session_id,
        "item_id": row.item_id,
        "event_type": row.event_type,
        "value": row.value,
        "timestamp": moment.isoformat(),
        "recommendation_id": row.recommendation_id,
        "position": row.position,
    }
