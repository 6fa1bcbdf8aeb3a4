"""Shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from serving.identifiers import ID

ExternalId = Annotated[str, Field(min_length=1, max_length=256, pattern=ID)]
Label = ExternalId
_LATEST_S = 253_402_300_799  # the end of the year 9999: ISO 8601 has four digits

EVENT_EXAMPLE: JsonDict = {
    "event_id": "order-981-line-2",
    "user": "u-17",
    "session": "s-3",
    "item_id": "22423",
    "event_type": "purchase",
    "value": 12.75,
    "timestamp": "2026-01-31T12:00:00Z",
    "recommendation_id": "0198c0ffee00a1b2c3d4e5f60718293a",
    "position": 0,
}
IMPRESSION_EXAMPLE: JsonDict = {
    "type": "impression",
    "user": "u-17",
    "recommendation_id": "0198c0ffee00a1b2c3d4e5f60718293a",
    "items": ["22423", "85123A"],
}
ITEM_EXAMPLE: JsonDict = {
    "title": "Red lantern",
    "categories": ["garden", "light"],
    "price": 12.5,
    "available": True,
    "attributes": {"colour": "red", "indoor": False},
}


class Asked(BaseModel):
    """Strict: unknown fields and values of another type are refused rather than guessed at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _moment(timestamp: object) -> object:
    """Let only times through that float | str can take, so that a refusal speaks of one field and not of two kinds."""
    if timestamp is None or isinstance(timestamp, str):
        return timestamp
    if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and 0 <= timestamp <= _LATEST_S:
        return timestamp
    raise ValueError(
        f"must be seconds (not milliseconds) since 1970 from 0 to {_LATEST_S}, or ISO 8601; send for example "
        "1769860800 or '2026-01-31T12:00:00Z', or leave it out for now"
    )


Moment = Annotated[float | str | None, BeforeValidator(_moment)]
Position = Annotated[int, Field(ge=0, le=2_147_483_647)]
Scalar = Annotated[str, Field(max_length=256)] | bool | Annotated[float, Field(allow_inf_nan=False)]


class ItemFields(Asked):
    """What is known of an item."""

    model_config = ConfigDict(json_schema_extra={"examples": [ITEM_EXAMPLE]})

    title: Annotated[str, Field(max_length=2_000)] = ""
    categories: Annotated[list[Label], Field(max_length=100)] = []
    price: Annotated[float, Field(ge=0, le=1e30)] | None = None
    available: bool = True
    attributes: Annotated[dict[Label, Scalar], Field(max_length=64)] = Field(
        default={}, description="For filters"
    )


class UserFields(Asked):
    """What is known of a user."""

    attributes: Annotated[dict[Label, Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(
        default={}, examples=[{"country": "France"}], description="Those that the bundle knows are ranked by"
    )


class Event(Asked):
    """Something a user did."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVENT_EXAMPLE]})

    type: Literal["interaction"] = "interaction"
    user: ExternalId
    item_id: ExternalId
    event_type: Label = Field(description="One of the bundle's event types")
    event_id: ExternalId | None = Field(
        default=None,
        description="Makes a retry harmless: the first event of an id is kept, later ones are duplicates",
    )
    session: ExternalId | None = None
    value: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="Rating, revenue, watch ratio"
    )
    timestamp: Moment = Field(
        default=None,
        description="Seconds since 1970 or ISO 8601 (UTC where it names no zone); now if left out",
    )
    recommendation_id: ExternalId | None = None
    position: Position | None = Field(default=None, description="0-based")


class ImpressionEvent(Asked):
    """What the caller showed of a list; it stands instead of what the server logged when it answered."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMPRESSION_EXAMPLE]})

    type: Literal["impression"]
    user: ExternalId
    recommendation_id: ExternalId
    items: Annotated[list[ExternalId], Field(min_length=1, max_length=1_000)] = Field(
        description="By position, from the first shown"
    )
    event_id: ExternalId | None = None
    session: ExternalId | None = None
    timestamp: Moment = None


class ItemEvent(ItemFields):
    """An item as it is from now on: the same as PUT /v1/items/{item_id}."""

    type: Literal["item"]
    item_id: ExternalId


class UserEvent(UserFields):
    """What is known of a user from now on: the same as PUT /v1/users/{user}."""

    type: Literal["user"]
    user: ExternalId


class Rejected(BaseModel):
    """One refused row of a batch."""

    index: int = Field(description="0-based row of the batch")
    error: str


class EventsAnswer(BaseModel):
    """What became of a batch; accepted events are durable and change the user's very next list."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class StoredEvent(BaseModel):
    """One kept event."""

    event_id: str
    session: str | None
    item_id: str
    event_type: str
    value: float | None
    timestamp: str
    recommendation_id: str | None
    position: int | None


class UserEventsAnswer(BaseModel):
    """A user's newest events, newest first, and what else is known of them."""

    user: str
    attributes: dict[str, str] = Field(description="What the imported history knew of the user")
    events: list[StoredEvent]


class UserAnswer(BaseModel):
    """What is known of a user."""

    user: str
    attributes: dict[str, str]
    events: int = Field(description="Of the newest ones, which lists are ranked by")


class MergedAnswer(BaseModel):
    """What moved."""

    user: str
    merged: str
    events: int
    impressions: int


class ForgottenAnswer(BaseModel):
    """What a deletion removed, and what a count of every table that knows users then found."""

    user: str
    events: int
    impressions: int
    attributes: int
    remaining: dict[str, int] = Field(description="Rows of the user by table, after the deletion: zeros")


class HealthAnswer(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class ReadyAnswer(BaseModel):
    """Requests can be answered."""

    status: Literal["ready"]
    model: str
    store: Literal["ready", "away"] = Field(description="away: events wait in a file until it is back")


class WelcomeAnswer(BaseModel):
    """Where to go from here."""

    name: str
    docs: str
    openapi: str
    ready: str
    recommend: str


class Error(BaseModel):
    """Why a request was refused."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "invalid_request",
                        "message": "n is 0: must be at least 1; send a larger number",
                    }
                }
            ]
        }
    )

    error: Error


class EventsRefusedAnswer(EventsAnswer):
    """Every event was rejected."""

    error: Error


_MEANING = {
    400: "The body is not JSON",
    401: "No valid API key",
    403: "The key has not the scope",
    404: "There is none of this name",
    409: "It cannot be done as things stand",
    413: "The body or the batch is too large",
    422: "A value is missing or out of bounds",
    429: "Too many requests of this key; wait as long as Retry-After says",
    500: "A fault of the server",
    503: "Not ready, overloaded, or the store does not take writes; try again after Retry-After",
}
_ALWAYS = (401, 403, 429, 500, 503)  # of every route that a key guards


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI declaration of error statuses, those that any request may meet among them."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANING[status]}
        for status in sorted({*statuses, *_ALWAYS})
    }


def only_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declaration of a route that needs no key."""
    return {status: {"model": ErrorAnswer, "description": _MEANING[status]} for status in statuses}


def json_body(*schemas: type[BaseModel], many: bool = False, lines: bool = False) -> dict[str, Any]:
    """Return the OpenAPI declaration of a body that the route parses itself."""
    shapes: list[dict[str, Any]] = [inlined(schema) for schema in schemas]
    if many:
        shapes += [{"type": "array", "items": {"anyOf": list(shapes)} if len(shapes) > 1 else shapes[0]}]
    shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    content: dict[str, Any] = {"application/json": {"schema": shape}}
    if lines:
        content["application/x-ndjson"] = {
            "schema": {"type": "string", "description": "One JSON object a line"}
        }
    return {"requestBody": {"required": True, "content": content}}


def inlined(schema: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema without references, which would point into the document around it."""
    whole = schema.model_json_schema()
    parts = whole.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(parts[node["$ref"].rsplit("/", 1)[-1]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(value) for value in node] if isinstance(node, list) else node

    resolved: dict[str, Any] = resolve(whole)
    return resolved
