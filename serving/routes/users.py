"""What is kept of a user: reading it, saying what is known of them, merging two, and deletion with its proof."""

from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import TypeAdapter, ValidationError

from serving.dependencies import Body, CurrentService
from serving.problems import Problem, refusal, shown
from serving.schemas import (
    ExternalId,
    ForgottenAnswer,
    MergedAnswer,
    UserAnswer,
    UserEventsAnswer,
    UserFields,
    errors,
    json_body,
)
from serving.store import EventRow

router = APIRouter(tags=["users"])

_ID = TypeAdapter(ExternalId)


@router.get(
    "/v1/users/{user:path}/events",
    response_model=UserEventsAnswer,
    responses=errors(404, 422),
    summary="A user's newest events",
)
async def events_of(
    service: CurrentService,
    user: str,
    limit: Annotated[int, Query(ge=1, le=10_000, description="How many at most")] = 100,
) -> Response:
    """Return what the store keeps, newest first; empty for a user never seen."""
    rows = await service.store.events(user, limit)
    attributes = await service.store.attributes(user)
    return _json({"user": user, "attributes": attributes, "events": [_shown(row) for row in rows]})


@router.post(
    "/v1/users/{user}/merge/{anonymous}",
    response_model=MergedAnswer,
    responses=errors(404, 422),
    summary="Give an anonymous visitor's events to a user",
)
async def merge(service: CurrentService, user: str, anonymous: str) -> Response:
    """Move events, impressions and attributes; the user's own attributes win, and the visitor is then unknown."""
    for name, value in (("user", user), ("anonymous", anonymous)):
        _check(name, value)
    if user == anonymous:
        raise Problem(422, "invalid_request", f"anonymous is {shown(anonymous)}: must be another than user")
    moved = await service.store.merge(user, anonymous)
    return _json(
        {"user": user, "merged": anonymous, "events": moved.events, "impressions": moved.impressions}
    )


@router.get(
    "/v1/users/{user:path}",
    response_model=UserAnswer,
    responses=errors(404, 422),
    summary="What is known of a user",
)
async def known_of(service: CurrentService, user: str) -> Response:
    """Return the attributes and how many of the newest events are ranked by; empty for a user never seen."""
    _check("user", user)
    attributes = await service.store.attributes(user)
    events = await service.store.newest(user, service.settings.history_events)
    return _json({"user": user, "attributes": attributes, "events": len(events)})


@router.put(
    "/v1/users/{user:path}",
    response_model=UserAnswer,
    responses=errors(400, 404, 413, 422),
    openapi_extra=json_body(UserFields),
    summary="Say what is known of a user",
)
async def put(service: CurrentService, user: str, body: Body) -> Response:
    """Know a user by these attributes from the next list on, instead of what was known."""
    _check("user", user)
    try:
        fields = UserFields.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
    await service.store.put_user(user, fields.attributes)
    events = await service.store.newest(user, service.settings.history_events)
    return _json({"user": user, "attributes": fields.attributes, "events": len(events)})


@router.delete(
    "/v1/users/{user:path}",
    response_model=ForgottenAnswer,
    responses=errors(404, 422),
    summary="Forget a user",
)
async def forget(service: CurrentService, user: str) -> Response:
    """Delete a user's events, impressions and attributes, and count what is left: nothing."""
    gone = await service.store.forget(user)
    return _json(
        {
            "user": user,
            "events": gone.events,
            "impressions": gone.impressions,
            "attributes": gone.attributes,
            "remaining": gone.remaining,
        }
    )


def _check(name: str, value: str) -> None:
    try:
        _ID.validate_python(value)
    except ValidationError:
        raise Problem(
            422,
            "invalid_request",
            f"{name} is {shown(value)}: must have 1 to 256 characters and no control characters; send another id",
        ) from None


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


def _json(content: dict[str, object]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
