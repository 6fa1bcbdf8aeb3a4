"""What the pages ask for besides the public API; no part of the document, and never a key or a user's id in a path."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from serving.console.figures import figures
from serving.console.preview import Preview, item_of, likes, preview, told_history
from serving.console.state import CurrentConsole
from serving.console.versions import told_versions
from serving.dependencies import Body, CurrentService
from serving.problems import refusal

router = APIRouter(include_in_schema=False, prefix="/console/api")


@router.post("/preview")
async def what_would_be_shown(service: CurrentService, body: Body) -> Response:
    """Rank for likes that come along, or for a user of the store; nothing is logged or stored."""
    try:
        asked = Preview.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
    recommender = service.ready().champion
    if asked.user is None:
        return _json(preview(recommender, likes(recommender, asked.liked), {}, asked.n))
    events = await service.store.newest(
        asked.user, service.settings.history_events, impressions=recommender.reads_impressions
    )
    attributes = await service.store.attributes(asked.user)
    content = preview(recommender, events, attributes, asked.n)
    content["history"] = told_history(recommender, events)
    content["attributes"] = attributes
    return _json(content)


@router.get("/items")
async def items(
    service: CurrentService,
    console: CurrentConsole,
    q: Annotated[str, Query(max_length=200)] = "",
    n: Annotated[int, Query(ge=1, le=50)] = 12,
) -> Response:
    """Find items by title."""
    recommender = service.ready().champion
    return _json({"items": [item_of(recommender, item) for item in console.search.find(recommender, q, n)]})


@router.get("/operations")
async def operations(service: CurrentService) -> Response:
    """Return what this worker has counted, and the versions with what they reached."""
    versions = await asyncio.to_thread(told_versions, service.fleet.folders())
    return _json({**figures(service), **service.fleet.models(), "told": versions})


@router.get("/estimate")
async def estimate(service: CurrentService, console: CurrentConsole) -> Response:
    """Return the estimate as far as it has come, and go on with it for as long as somebody asks."""
    service.ready()
    return _json(console.estimate.read(service))


def _json(content: dict[str, Any]) -> Response:
    return Response(
        orjson.dumps(content), media_type="application/json", headers={"Cache-Control": "no-store"}
    )
