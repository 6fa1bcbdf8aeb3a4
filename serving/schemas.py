"""Shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

# Without control characters every id can also be written in a path, so every user can be deleted.
ExternalId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Label = ExternalId
_LATEST_S = 253_402_300_799  # the end of the year 9999: ISO 8601 has four digits

RECOMMEND_EXAMPLE: JsonDict = {
    "user": "u-17",
    "n": 3,
    "exclude": ["85123A"],
    "attributes": {"country": "France"},
}
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


class Asked(BaseModel):
    """Strict: unknown fields and values of another type are refused rather than guessed at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RecommendRequest(Asked):
    """Ask for the best items for a user, known or never seen."""

    model_config = ConfigDict(json_schema_extra={"examples": [RECOMMEND_EXAMPLE]})

    user: ExternalId
    n: int = Field(default=10, ge=1, description="How many; fewer come back if the catalogue holds fewer")
    exclude: list[ExternalId] = Field(default=[], description="Items not to show; unknown ids are ignored")
    exclude_seen: bool = Field(default=True, description="Leave out items among the user's newest events")
    session: ExternalId | None = Field(default=None, description="Kept in the impression")
    attributes: Annotated[dict[Label, Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = (
        Field(
            default=None,
            description="What is known of the user, instead of what the imported history knew of them; kept in the "
            "impression only",
        )
    )


class RecommendedItem(BaseModel):
    """One position of a list."""

    item_id: str
    score: float = Field(
        description="Adapted Q, the expected discounted reward of showing the item; a baseline's own score; popularity"
    )
    propensity: float = Field(description="Probability of the item given the state and the items above it")
    position: int = Field(description="0-based")


class RecommendAnswer(BaseModel):
    """A list and how it came about."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "recommendation_id": "0198c0ffee00a1b2c3d4e5f60718293a",
                    "model": "v1-3f9a2c",
                    "policy": "plackett_luce(temperature=0.02)",
                    "seed": 4831552072351847,
                    "served_by": "adapted",
                    "support_events": 5,
                    "took_ms": 1.7,
                    "items": [{"item_id": "22423", "score": 0.41, "propensity": 0.62, "position": 0}],
                }
            ]
        }
    )

    recommendation_id: str = Field(description="Send it back with the events that follow")
    model: str = Field(description="Version of the bundle")
    policy: str = Field(
        description="How the list was drawn; a baseline's kind stands before it: item_knn/greedy"
    )
    seed: int
    served_by: Literal["adapted", "unadapted", "policy", "popular"] = Field(
        description="The student with or without adaptation; the baseline of the bundle; popular items if that fails"
    )
    support_events: int = Field(description="Events the weights were adapted to, or that the baseline read")
    took_ms: float
    items: list[RecommendedItem]


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


class Event(Asked):
    """Something a user did."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVENT_EXAMPLE]})

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
    timestamp: Annotated[float | str | None, BeforeValidator(_moment)] = Field(
        default=None,
        description="Seconds since 1970 or ISO 8601 (UTC where it names no zone); now if left out",
    )
    recommendation_id: ExternalId | None = None
    position: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = Field(
        default=None, description="0-based"
    )


class Rejected(BaseModel):
    """One refused row of a batch."""

    index: int = Field(description="0-based row of the batch")
    error: str


class EventsAnswer(BaseModel):
    """What became of a batch; accepted events are durable and change the user's very next list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "accepted": 2,
                    "duplicates": 1,
                    "rejected": [{"index": 3, "error": "item_id is 'X': not in the catalogue of v1; …"}],
                }
            ]
        }
    )

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


class ForgottenAnswer(BaseModel):
    """What a deletion removed."""

    user: str
    events: int
    impressions: int


class HealthAnswer(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class ReadyAnswer(BaseModel):
    """Requests can be answered."""

    status: Literal["ready"]
    model: str


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


_MEANING = {
    400: "The body is not JSON",
    413: "The body or the batch is too large",
    422: "A value is missing or out of bounds",
    500: "A fault of the server",
    503: "Not ready, or the store does not take writes; try again",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI declaration of error statuses."""
    return {status: {"model": ErrorAnswer, "description": _MEANING[status]} for status in statuses}


def json_body(*schemas: type[BaseModel], many: bool = False) -> dict[str, Any]:
    """Return the OpenAPI declaration of a body that the route parses itself."""
    shapes: list[dict[str, Any]] = [schema.model_json_schema() for schema in schemas]
    if many:
        shapes += [{"type": "array", "items": shape} for shape in shapes]
    shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape}}}}
