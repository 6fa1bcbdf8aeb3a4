"""The catalogue: items as they are, one or many at once, what they are like, and what to show a new user first."""

import asyncio
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError

from recsys.candidates.filters import CategoryFilter, ItemFilter
from recsys.live_catalogue import DELETED
from serving.admin_schemas import (
    ItemAnswer,
    ItemChangedAnswer,
    ItemPatch,
    ItemRow,
    ItemsAnswer,
    ItemsRefusedAnswer,
)
from serving.dependencies import Body, CurrentService, Service
from serving.list_schemas import OnboardingAnswer, SimilarAnswer
from serving.missing import unmet
from serving.problems import Problem, refusal, sentences, shown
from serving.rows import outcome, parse_rows
from serving.schemas import ErrorAnswer, ExternalId, ItemFields, errors, json_body

router = APIRouter(tags=["items"])

_ID = TypeAdapter(ExternalId)


@router.get(
    "/v1/onboarding",
    response_model=OnboardingAnswer,
    responses=errors(422),
    summary="What to show a new user first",
)
async def onboarding(
    service: CurrentService,
    n: Annotated[int, Query(ge=1, le=100)] = 10,
    user: Annotated[str | None, Query(max_length=256)] = None,
) -> Response:
    """Return the items whose feedback would teach most about a user, each as if those before had been answered."""
    recommender = service.ready().champion
    events = [] if user is None else await service.store.newest(user, service.settings.history_events)
    history = recommender.history(events)
    asked = recommender.what_to_ask(history, n)
    catalogue = recommender.catalogue
    return _json(
        {
            "model": recommender.version,
            "support_events": len(history),
            "items": [
                {
                    "item_id": catalogue.item_ids[item],
                    "title": catalogue.titles[item],
                    "categories": list(catalogue.categories[item]),
                }
                for item in asked.tolist()
            ],
        }
    )


@router.get(
    "/v1/items/{item_id:path}/similar",
    response_model=SimilarAnswer,
    responses=errors(404, 422),
    summary="What an item is like",
)
async def similar(
    service: CurrentService,
    item_id: str,
    n: Annotated[int, Query(ge=1)] = 10,
    category: Annotated[list[str] | None, Query(description="Any of these")] = None,
) -> Response:
    """Return the available items most like one, by what the model knows of items; none that have nothing in common."""
    recommender = service.ready().champion
    if n > service.settings.max_n:
        raise Problem(
            422,
            "invalid_request",
            f"n is {n}: must be at most {service.settings.max_n}; ask for fewer, or raise RECSYS_MAX_N",
        )
    index = _index_of(service, item_id)
    try:
        wanted = ItemFilter(categories=CategoryFilter(any=tuple(category))) if category else None
    except ValidationError as error:
        raise refusal(error) from None
    allowed = recommender.allowed(wanted)
    items, likeness = await asyncio.to_thread(recommender.similar, index, n, allowed)
    catalogue = recommender.catalogue
    note = None if len(items) else unmet(recommender, wanted)
    return _json(
        {
            "item_id": item_id,
            "model": recommender.version,
            "items": [
                {"item_id": catalogue.item_ids[item], "score": score, "title": catalogue.titles[item]}
                for item, score in zip(items.tolist(), np.nan_to_num(likeness).tolist(), strict=True)
            ],
            **({} if note is None else {"note": note}),
        }
    )


@router.post(
    "/v1/items",
    response_model=ItemsAnswer,
    responses={
        **errors(400, 413),
        422: {"model": ItemsRefusedAnswer | ErrorAnswer, "description": "Every row was rejected"},
    },
    openapi_extra=json_body(ItemRow, many=True, lines=True),
    summary="Put many items at once",
)
async def put_many(request: Request, service: CurrentService, body: Body) -> Response:
    """Put items, an array or one a line, in one transaction; bad rows are named and cost no other."""
    service.ready()
    rows, unread = parse_rows(body, request.headers)
    if len(rows) > (most := service.settings.max_items_per_batch):
        raise Problem(
            413,
            "too_many_items",
            f"the batch holds {len(rows)} items, at most {most}; split it, or raise RECSYS_MAX_ITEMS_PER_BATCH",
        )
    changes: list[tuple[str, dict[str, Any]]] = []
    rejected: list[tuple[int, str]] = []
    for index, row in enumerate(rows):
        if index in unread:
            rejected.append((index, unread[index]))
            continue
        try:
            item = ItemRow.model_validate(row)
        except ValidationError as error:
            rejected.append((index, sentences(error.errors(include_url=False), 3)))
        else:
            changes.append((item.item_id, item.model_dump(exclude={"item_id"})))
    revision = await _changed(service, changes) if changes else service.ready().champion.catalogue.revision
    counted = {"accepted": len(changes), "revision": revision}
    refused, content = outcome(counted, rejected, len(changes))
    return Response(content, 422 if refused else 200, media_type="application/json")


@router.get(
    "/v1/items/{item_id:path}",
    response_model=ItemAnswer,
    responses=errors(404, 422),
    summary="An item",
)
async def item_of(service: CurrentService, item_id: str) -> Response:
    """Return an item as it is now."""
    catalogue = service.ready().champion.catalogue
    fields = catalogue.fields(item_id)
    if fields is None:
        raise _unknown(item_id)
    return _json(
        {"item_id": item_id, **fields, "in_bundle": catalogue.index_of[item_id] < catalogue.base_items}
    )


@router.put(
    "/v1/items/{item_id:path}",
    response_model=ItemChangedAnswer,
    responses=errors(400, 404, 413, 422),
    openapi_extra=json_body(ItemFields),
    summary="Put an item",
)
async def put(service: CurrentService, item_id: str, body: Body) -> Response:
    """Let an item be as the body says; a new one can be recommended at once, by its content."""
    service.ready()
    _check(item_id)
    fields = _fields(ItemFields, body)
    return _json({"item_id": item_id, "revision": await _changed(service, [(item_id, fields)])})


@router.patch(
    "/v1/items/{item_id:path}",
    response_model=ItemChangedAnswer,
    responses=errors(400, 404, 413, 422),
    openapi_extra=json_body(ItemPatch),
    summary="Change some of an item",
)
async def patch(service: CurrentService, item_id: str, body: Body) -> Response:
    """Change the fields that are named; an item that is made unavailable is in no list from now on."""
    service.ready()
    changed = _fields(ItemPatch, body, exclude_unset=True)
    await service.fleet.catch_up()
    known = service.ready().champion.catalogue.fields(item_id)
    if known is None:
        raise _unknown(item_id)
    return _json({"item_id": item_id, "revision": await _changed(service, [(item_id, {**known, **changed})])})


@router.delete(
    "/v1/items/{item_id:path}",
    response_model=ItemChangedAnswer,
    responses=errors(404, 422),
    summary="Take an item out",
)
async def delete(service: CurrentService, item_id: str) -> Response:
    """Show an item to nobody from now on; what users did with it stays known."""
    await service.fleet.catch_up()
    if service.ready().champion.catalogue.fields(item_id) is None:
        raise _unknown(item_id)
    return _json({"item_id": item_id, "revision": await _changed(service, [(item_id, {DELETED: True})])})


async def _changed(service: Service, changes: list[tuple[str, dict[str, Any]]]) -> int:
    revision = await service.store.change_items(changes)
    await service.fleet.catch_up()
    return revision


def _fields(schema: type[ItemFields], body: bytes, *, exclude_unset: bool = False) -> dict[str, Any]:
    try:
        return schema.model_validate_json(body).model_dump(exclude_unset=exclude_unset)
    except ValidationError as error:
        raise refusal(error) from None


def _index_of(service: Service, item_id: str) -> int:
    catalogue = service.ready().champion.catalogue
    if not catalogue.lists(item_id):
        raise _unknown(item_id)
    return catalogue.index_of[item_id]


def _check(item_id: str) -> None:
    try:
        _ID.validate_python(item_id)
    except ValidationError:
        raise Problem(
            422,
            "invalid_request",
            f"item_id is {shown(item_id)}: must have 1 to 256 characters and no control characters; send another id",
        ) from None


def _unknown(item_id: str) -> Problem:
    return Problem(404, "not_found", f"no item {shown(item_id)}; put it with PUT /v1/items/{{item_id}}")


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
