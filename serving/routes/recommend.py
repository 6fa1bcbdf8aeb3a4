"""POST /v1/recommend and its GET alias: read the user's events, rank, write the impression, answer."""

import time
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from recsys.randomness import derive_seed
from serving.dependencies import Body, CurrentService, Service
from serving.engine import Ask, answer
from serving.event_log import Impression, impression_of
from serving.identifiers import new_id
from serving.problems import Problem, refusal
from serving.schemas import RecommendAnswer, RecommendRequest, errors, json_body

router = APIRouter(tags=["recommend"])


@router.post(
    "/v1/recommend",
    response_model=RecommendAnswer,
    responses=errors(400, 413, 422, 500, 503),
    openapi_extra=json_body(RecommendRequest),
    summary="The best items for a user",
)
async def recommend(service: CurrentService, body: Body) -> Response:
    """Rank for a user by every event accepted so far; a user never seen gets what suits users in general."""
    try:
        request = RecommendRequest.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
    return await _serve(service, request)


@router.get(
    "/v1/recommend/{user:path}",
    response_model=RecommendAnswer,
    responses=errors(422, 500, 503),
    summary="The same, as a link",
)
async def recommend_to(
    service: CurrentService,
    user: str,
    n: Annotated[int, Query(ge=1)] = 10,
    exclude_seen: bool = True,
) -> Response:
    """Rank for a user."""
    try:
        request = RecommendRequest(user=user, n=n, exclude_seen=exclude_seen)
    except ValidationError as error:
        raise refusal(error) from None
    return await _serve(service, request)


async def _serve(service: Service, request: RecommendRequest) -> Response:
    began = time.perf_counter()
    settings, metrics = service.settings, service.metrics
    recommender = service.ready()
    _check_bounds(service, request)
    recommendation_id = new_id()
    asked_at_us = time.time_ns() // 1_000
    events = await service.store.newest(
        request.user, settings.history_events, impressions=recommender.reads_impressions
    )
    attributes = request.attributes
    if attributes is None:
        attributes = await service.store.attributes(request.user)
    read = time.perf_counter()
    served = answer(
        recommender,
        Ask(
            user=request.user,
            session=request.session,
            n=request.n,
            seed=derive_seed(settings.seed, recommendation_id) >> 10,  # 53 bits: exact in every JSON reader
            events=events,
            attributes=attributes,
            exclude=request.exclude,
            exclude_seen=request.exclude_seen,
        ),
    )
    ranked = time.perf_counter()
    line = impression_of(recommendation_id, asked_at_us, recommender, served)
    await service.store.record(line)
    done = time.perf_counter()
    metrics.duration["read"].observe(read - began)
    metrics.duration["rank"].observe(ranked - read)
    metrics.duration["log"].observe(done - ranked)
    metrics.duration["total"].observe(done - began)
    metrics.recommendations.labels(line.served_by).inc()
    if line.served_by == "adapted":
        metrics.adaptations.inc()
    if served.fallback is not None:
        metrics.fallbacks.labels(served.fallback).inc()
    return Response(_encoded(line, (done - began) * 1e3), media_type="application/json")


def _check_bounds(service: Service, request: RecommendRequest) -> None:
    settings = service.settings
    if request.n > settings.max_n:
        raise Problem(
            422,
            "invalid_request",
            f"n is {request.n}: must be at most {settings.max_n}; ask for fewer, or raise RECSYS_MAX_N",
        )
    if len(request.exclude) > settings.max_exclude:
        raise Problem(
            422,
            "invalid_request",
            f"exclude holds {len(request.exclude)} ids: must be at most {settings.max_exclude}; send "
            "fewer, or raise RECSYS_MAX_EXCLUDE",
        )


def _encoded(line: Impression, took_ms: float) -> bytes:
    return orjson.dumps(
        {
            "recommendation_id": line.recommendation_id,
            "model": line.model,
            "policy": line.policy,
            "seed": line.ask.seed,
            "served_by": line.served_by,
            "support_events": line.support_events,
            "took_ms": round(took_ms, 3),
            "items": [
                {"item_id": item_id, "score": score, "propensity": propensity, "position": position}
                for position, (item_id, score, propensity) in enumerate(
                    zip(line.item_ids, line.scores, line.propensities, strict=True)
                )
            ],
        }
    )
