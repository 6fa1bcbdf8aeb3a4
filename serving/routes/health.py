"""Is it alive, is it ready, what does it measure, where to start."""

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.dependencies import CurrentService
from serving.problems import NotReady
from serving.schemas import HealthAnswer, ReadyAnswer, WelcomeAnswer, errors

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=HealthAnswer, summary="The process runs")
async def healthz() -> Response:
    """Answer whatever state the bundle and the store are in."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=ReadyAnswer, responses=errors(503), summary="Requests can be answered")
async def readyz(service: CurrentService) -> Response:
    """Answer 503, naming what is missing, until bundle, warm users and store are there."""
    recommender = service.ready()
    if not await service.store.answers():
        raise NotReady(["the store"])
    return Response(
        orjson.dumps({"status": "ready", "model": recommender.version}), media_type="application/json"
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
    summary="Counters and timings of this process",
)
async def metrics(service: CurrentService) -> Response:
    """Return what this worker process has counted and timed."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", response_model=WelcomeAnswer, summary="Where to start")
async def welcome() -> Response:
    """Point to the documentation."""
    content = WelcomeAnswer(
        name="metaq",
        docs="/docs",
        openapi="/openapi.json",
        ready="/readyz",
        recommend="/v1/recommend/{user}?n=10",
    )
    return Response(content.model_dump_json(), media_type="application/json")
