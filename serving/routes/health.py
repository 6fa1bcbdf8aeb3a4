"""Is it alive, is it ready, what does it measure, where to start."""

import orjson
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.dependencies import CurrentService
from serving.problems import NotReady
from serving.schemas import HealthAnswer, ReadyAnswer, WelcomeAnswer, only_errors

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=HealthAnswer, summary="The process runs")
async def healthz() -> Response:
    """Answer whatever state the bundle and the store are in."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/livez", response_model=HealthAnswer, summary="The process runs, as Kubernetes asks")
async def livez() -> Response:
    """Answer whatever state the bundle and the store are in."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get(
    "/readyz", response_model=ReadyAnswer, responses=only_errors(503), summary="Requests can be answered"
)
async def readyz(service: CurrentService) -> Response:
    """Answer 503, naming what is missing, until bundle, warm users and store are there.

    With a database the worker stays ready while it is away: lists are answered and events wait in a file.
    """
    recommender = service.ready().champion
    store = "ready"
    if not await service.store.answers():
        if service.settings.database is None:
            raise NotReady(["the store"])
        store = "away"
    content = {"status": "ready", "model": recommender.version, "store": store}
    return Response(orjson.dumps(content), media_type="application/json")


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Prometheus text format"},
        **only_errors(503),
    },
    summary="Counters and timings of this process",
)
async def metrics(service: CurrentService) -> Response:
    """Return what this worker process has counted and timed."""
    told, recommender = service.metrics, service.fleet.current
    told.swaps.set(service.fleet.swaps)
    told.lost.set(getattr(service.store, "lost_lines", 0))
    told.away.set(bool(getattr(service.store, "away", False)))
    if recommender is not None:
        told.catalogue.set(recommender.allowed().count)
    return Response(told.exposition(), media_type=CONTENT_TYPE_LATEST)


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
