"""POST /v1/events: take in what users did, each row judged alone, durable before the answer."""

import time

import orjson
from fastapi import APIRouter, Response

from serving.dependencies import Body, CurrentService
from serving.intake import judge
from serving.problems import Problem, malformed_json, shown
from serving.schemas import ErrorAnswer, Event, EventsAnswer, errors, json_body

router = APIRouter(tags=["events"])


@router.post(
    "/v1/events",
    status_code=202,
    response_model=EventsAnswer,
    responses={
        **errors(400, 413, 500, 503),
        422: {
            "model": EventsAnswer | ErrorAnswer,
            "description": "Every row was rejected, or the body is no batch",
        },
    },
    openapi_extra=json_body(Event, many=True),
    summary="Take in one event or an array of them",
)
async def take_in(service: CurrentService, body: Body) -> Response:
    """Keep events; they are durable when this answers, and the user's very next list knows them.

    Idempotent by event_id. Bad rows are named in `rejected` and cost no other row.
    """
    recommender = service.ready()
    settings, counts = service.settings, service.metrics.events
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise malformed_json(str(error)) from None
    if not isinstance(parsed, dict | list):
        raise Problem(
            422, "invalid_request", f"the body is {shown(parsed)}: must be one event or an array of events"
        )
    rows = parsed if isinstance(parsed, list) else [parsed]
    if len(rows) > settings.max_events_per_batch:
        raise Problem(
            413,
            "too_many_events",
            f"the batch holds {len(rows)} events, at most {settings.max_events_per_batch}; split it, or "
            "raise RECSYS_MAX_EVENTS_PER_BATCH",
        )
    judged = judge(rows, recommender, time.time_ns() // 1_000, settings.max_clock_skew_s)
    accepted = await service.store.append(judged.admitted)
    duplicates = len(judged.admitted) - accepted
    counts["accepted"].inc(accepted)
    counts["duplicate"].inc(duplicates)
    counts["rejected"].inc(len(judged.rejected))
    content = orjson.dumps(
        {
            "accepted": accepted,
            "duplicates": duplicates,
            "rejected": [{"index": index, "error": error} for index, error in judged.rejected],
        }
    )
    all_bad = bool(judged.rejected) and not judged.admitted
    return Response(content, 422 if all_bad else 202, media_type="application/json")
