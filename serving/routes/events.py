"""POST /v1/events: take in what users did and what changed, each row judged alone, durable before the answer."""

import asyncio
import time
from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from serving.dependencies import Body, CurrentService, Service
from serving.gate import Handler
from serving.intake import Judged, judge
from serving.problems import Problem
from serving.rows import outcome, parse_rows
from serving.schemas import (
    ErrorAnswer,
    Event,
    EventsAnswer,
    EventsRefusedAnswer,
    ImpressionEvent,
    ItemEvent,
    UserEvent,
    errors,
    json_body,
)

router = APIRouter(tags=["events"])


def hot(service: Service) -> dict[tuple[str, str], Handler]:
    """Return the handler of events, which are answered before any routing."""

    async def take_in_now(body: bytes, headers: Mapping[str, str], began: float) -> tuple[int, bytes]:
        return await _taken(service, body, headers)

    return {("POST", "/v1/events"): take_in_now}


@router.post(
    "/v1/events",
    status_code=202,
    response_model=EventsAnswer,
    responses={
        **errors(400, 413),
        422: {
            "model": EventsRefusedAnswer | ErrorAnswer,
            "description": "Every row was rejected, or the body is no batch",
        },
    },
    openapi_extra=json_body(Event, ImpressionEvent, ItemEvent, UserEvent, many=True, lines=True),
    summary="Take in events: one, an array, or one a line",
)
async def take_in(request: Request, service: CurrentService, body: Body) -> Response:
    """Keep events; they are durable when this answers, and the user's very next list knows them.

    Idempotent by event_id. Bad rows are named in `rejected` and cost no other row.
    """
    status, content = await _taken(service, body, request.headers)
    return Response(content, status, media_type="application/json")


async def _taken(service: Service, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    recommender = service.ready().champion
    settings, counts = service.settings, service.metrics.events
    rows, unread = parse_rows(body, headers)
    if len(rows) > settings.max_events_per_batch:
        raise Problem(
            413,
            "too_many_events",
            f"the batch holds {len(rows)} events, at most {settings.max_events_per_batch}; split it, or "
            "raise RECSYS_MAX_EVENTS_PER_BATCH",
        )
    judged = judge(rows, recommender, time.time_ns() // 1_000, settings.max_clock_skew_s, unread)
    accepted = await keep(service, judged)
    duplicates = judged.rows - accepted
    counts["accepted"].inc(accepted)
    counts["duplicate"].inc(duplicates)
    counts["rejected"].inc(len(judged.rejected))
    counted = {"accepted": accepted, "duplicates": duplicates}
    refused, content = outcome(counted, judged.rejected, judged.rows)
    return 422 if refused else 202, content


async def keep(service: Service, judged: Judged) -> int:
    """Store what a batch holds; return how many of its rows were new."""
    store = service.store
    accepted = 0
    if judged.items:
        await store.change_items(judged.items)
        accepted += len(judged.items)
        await service.fleet.catch_up()
    for user, attributes in judged.users:
        await store.put_user(user, attributes)
        accepted += 1
    if not judged.shown:
        return accepted + await store.append(judged.admitted)
    # a row that says what was shown is one event of the caller's, however many items it names
    fresh, *others = await asyncio.gather(*(store.append(rows) for rows in (judged.admitted, *judged.shown)))
    return accepted + fresh + sum(count > 0 for count in others)
