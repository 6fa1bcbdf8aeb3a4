"""Lists: for a user, for a session, the next of a list, and the order of the caller's own candidates."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from recsys.columns import IMPRESSION
from recsys.recommender import LoggedEvent
from serving.dependencies import Body, CurrentService, Service
from serving.gate import Handler
from serving.intake import moment_us
from serving.list_schemas import InlineEvent, RankRequest, RecommendAnswer, RecommendRequest, SessionRequest
from serving.lists import Wanted, next_of, serve
from serving.problems import Problem, refusal, shown
from serving.schemas import errors, json_body

router = APIRouter(tags=["lists"])


def hot(service: Service) -> dict[tuple[str, str], Handler]:
    """Return the handlers of requests that are answered before any routing."""

    async def recommend_now(body: bytes, headers: Mapping[str, str], began: float) -> tuple[int, bytes]:
        return 200, await serve(service, _recommend(body), began)

    async def session_now(body: bytes, headers: Mapping[str, str], began: float) -> tuple[int, bytes]:
        return 200, await serve(service, _session(service, body), began)

    async def rank_now(body: bytes, headers: Mapping[str, str], began: float) -> tuple[int, bytes]:
        return 200, await serve(service, _rank(body), began)

    return {
        ("POST", "/v1/recommend"): recommend_now,
        ("POST", "/v1/session/recommend"): session_now,
        ("POST", "/v1/rank"): rank_now,
    }


@router.post(
    "/v1/recommend",
    response_model=RecommendAnswer,
    responses=errors(400, 413, 422),
    openapi_extra=json_body(RecommendRequest),
    summary="The best items for a user",
)
async def recommend(service: CurrentService, body: Body) -> Response:
    """Rank for a user by every event accepted so far; a user never seen gets what suits users in general."""
    return _json(await serve(service, _recommend(body), time.perf_counter()))


@router.post(
    "/v1/session/recommend",
    response_model=RecommendAnswer,
    responses=errors(400, 413, 422),
    openapi_extra=json_body(SessionRequest),
    summary="The best items for a visitor whose events come along",
)
async def recommend_to_session(service: CurrentService, body: Body) -> Response:
    """Rank by the events in the body, which are not stored; the list is logged without them.

    Events of items that were never in the catalogue are left out, and the items come back in `unknown`.
    """
    return _json(await serve(service, _session(service, body), time.perf_counter()))


@router.post(
    "/v1/rank",
    response_model=RecommendAnswer,
    responses=errors(400, 413, 422),
    openapi_extra=json_body(RankRequest),
    summary="The best order of the caller's own candidates",
)
async def rank(service: CurrentService, body: Body) -> Response:
    """Rank some items for a user; ids that are not in the catalogue, or no longer, come back in `unknown`.

    Unavailable candidates are ranked like the others; `filter: {}` leaves them out.
    """
    return _json(await serve(service, _rank(body), time.perf_counter()))


@router.get(
    "/v1/recommend/next/{recommendation_id}",
    response_model=RecommendAnswer,
    responses=errors(404, 409, 422),
    summary="The list after a list",
)
async def recommend_next(
    service: CurrentService, recommendation_id: str, n: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """Answer the same request again, by what the user did since, without any item of the lists before."""
    return _json(await next_of(service, recommendation_id, n, time.perf_counter()))


@router.get(
    "/v1/recommend/{user:path}",
    response_model=RecommendAnswer,
    responses=errors(404, 422),
    summary="The best items for a user, as a link",
)
async def recommend_to(
    service: CurrentService,
    user: str,
    n: Annotated[int, Query(ge=1)] = 10,
    exclude_seen: bool = True,
    scenario: str | None = None,
    category: Annotated[list[str] | None, Query(description="Any of these")] = None,
    explain: bool = False,
) -> Response:
    """Rank for a user."""
    asked: dict[str, object] = {"filter": {"categories": {"any": category}}} if category else {}
    try:
        request = RecommendRequest.model_validate(
            {
                "user": user,
                "n": n,
                "exclude_seen": exclude_seen,
                "scenario": scenario,
                "explain": explain,
                **asked,
            },
            strict=False,
        )
    except ValidationError as error:
        raise refusal(error) from None
    return _json(await serve(service, _of_request(request), time.perf_counter()))


def _recommend(body: bytes) -> Wanted:
    try:
        return _of_request(RecommendRequest.model_validate_json(body))
    except ValidationError as error:
        raise refusal(error) from None


def _of_request(request: RecommendRequest) -> Wanted:
    return Wanted(
        n=request.n,
        user=request.user,
        session=request.session,
        scenario=request.scenario,
        context=request.context,
        filter=request.filter,
        exclude=request.exclude,
        exclude_seen=request.exclude_seen,
        explain=request.explain,
        variant=request.variant,
        deadline_ms=request.deadline_ms,
        attributes=request.attributes,
    )


def _session(service: Service, body: bytes) -> Wanted:
    try:
        request = SessionRequest.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
    return Wanted(
        n=request.n,
        session=request.session,
        scenario=request.scenario,
        context=request.context,
        filter=request.filter,
        exclude=request.exclude,
        exclude_seen=request.exclude_seen,
        explain=request.explain,
        variant=request.variant,
        deadline_ms=request.deadline_ms,
        attributes=request.attributes,
        events=_inline(service, request.events, request.session),
    )


def _rank(body: bytes) -> Wanted:
    try:
        request = RankRequest.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
    named = dict.fromkeys(item if isinstance(item, str) else item.item_id for item in request.items)
    return Wanted(
        n=request.n or len(named),
        user=request.user,
        session=request.session,
        scenario=request.scenario,
        context=request.context,
        filter=request.filter,
        exclude=request.exclude,
        exclude_seen=request.exclude_seen,
        explain=request.explain,
        variant=request.variant,
        deadline_ms=request.deadline_ms,
        attributes=request.attributes,
        among=tuple(named),
    )


def _inline(service: Service, events: Sequence[InlineEvent], session: str | None) -> list[LoggedEvent]:
    """Return events by time, those without one just before now, in the order of the array."""
    recommender = service.ready().champion
    now = time.time()
    told: list[LoggedEvent] = []
    for place, event in enumerate(events):
        if event.event_type not in recommender.event_types or event.event_type == IMPRESSION:
            raise Problem(
                422,
                "invalid_request",
                f"events.{place}.event_type is {shown(event.event_type)}: not one of "
                f"{', '.join(recommender.feedback_types)}; send one of these",
            )
        if event.value is None and event.event_type in recommender.needs_value:
            raise Problem(
                422,
                "invalid_request",
                f"events.{place}.value is missing: what an event of type {shown(event.event_type)} is worth depends on "
                "it; give it",
            )
        try:
            at = now if event.timestamp is None else moment_us(event.timestamp) / 1e6
        except ValueError as error:
            raise Problem(422, "invalid_request", f"events.{place}.{error}") from None
        told.append(LoggedEvent(event.item_id, event.event_type, event.value, at, session))
    newest = service.settings.history_events
    return sorted(told, key=lambda event: event.timestamp)[-newest:]


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
