"""What both clients ask and how an answer is read: one function for each route (serving/client.py, client_async.py)."""

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

AGAIN: Final = {429, 502, 503, 504}
LONGEST_PAUSE_S: Final = 10.0


class Item(BaseModel):
    """One position of a list."""

    item_id: str
    score: float
    propensity: float
    position: int
    source: str
    reasons: list[dict[str, Any]] | None = None


class Recommendations(BaseModel):
    """A list and how it came about."""

    recommendation_id: str
    model: str
    variant: str | None
    policy: str
    seed: int
    served_by: str
    support_events: int
    took_ms: float
    items: list[Item]
    unknown: list[str] | None = None
    note: str | None = None


class Taken(BaseModel):
    """What became of a batch of events."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]


class EndpointError(Exception):
    """An answer that is an error, after all tries."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


def event(user: str, item_id: str, event_type: str, **fields: Any) -> dict[str, Any]:
    """Return an event with an id of its own."""
    return {
        "event_id": uuid.uuid4().hex,
        "user": user,
        "item_id": item_id,
        "event_type": event_type,
        **fields,
    }


T = TypeVar("T")
Plain = dict[str, Any]
Table = Literal["events", "item_changes", "users"]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its answer is read as."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Any = None
    again: bool = True  # asking twice does what asking once does


def recommend(user: str | None, n: int, options: Mapping[str, Any]) -> Call[Recommendations]:
    """Ask for the best items of a user."""
    body = {"n": n, **options}
    asked = body if user is None else {"user": user, **body}
    return Call("POST", "/v1/recommend", Recommendations.model_validate, asked)


def recommend_to_session(
    events: Sequence[Mapping[str, Any]], n: int, options: Mapping[str, Any]
) -> Call[Recommendations]:
    """Ask for the best items of a visitor whose events come along."""
    body = {"events": list(events), "n": n, **options}
    return Call("POST", "/v1/session/recommend", Recommendations.model_validate, body)


def next_list(recommendation_id: str, n: int | None) -> Call[Recommendations]:
    """Ask for the list after a list."""
    path = f"/v1/recommend/next/{_quoted(recommendation_id)}{_query(n=n)}"
    return Call("GET", path, Recommendations.model_validate)


def rank(user: str | None, items: Sequence[str], options: Mapping[str, Any]) -> Call[Recommendations]:
    """Ask for the best order of some items."""
    body = {"items": list(items), **({} if user is None else {"user": user}), **options}
    return Call("POST", "/v1/rank", Recommendations.model_validate, body)


def similar(item_id: str, n: int, category: str | None) -> Call[list[Plain]]:
    """Ask for the items most like one."""
    path = f"/v1/items/{_quoted(item_id)}/similar{_query(n=n, category=category)}"
    return Call("GET", path, lambda told: list(told["items"]))


def onboarding(n: int, user: str | None) -> Call[list[Plain]]:
    """Ask what to show first."""
    return Call("GET", f"/v1/onboarding{_query(n=n, user=user)}", lambda told: list(told["items"]))


def send(events: Sequence[Mapping[str, Any]]) -> Call[Taken]:
    """Keep events; those without an id are given one."""
    told = [one if "event_id" in one else {"event_id": uuid.uuid4().hex, **one} for one in events]
    return Call("POST", "/v1/events", Taken.model_validate, told)


def item(method: str, item_id: str, fields: Mapping[str, Any] | None = None) -> Call[Plain]:
    """Read, put, change or delete an item."""
    return Call(method, f"/v1/items/{_quoted(item_id)}", dict, None if fields is None else dict(fields))


def put_items(items: Sequence[Mapping[str, Any]]) -> Call[Plain]:
    """Put many items at once."""
    return Call("POST", "/v1/items", dict, [dict(one) for one in items])


def user(method: str, user_id: str, attributes: Mapping[str, str] | None = None) -> Call[Plain]:
    """Read, tell or forget a user."""
    body = None if attributes is None else {"attributes": dict(attributes)}
    return Call(method, f"/v1/users/{_quoted(user_id)}", dict, body)


def user_events(user_id: str, limit: int) -> Call[list[Plain]]:
    """Read a user's newest events."""
    path = f"/v1/users/{_quoted(user_id)}/events{_query(limit=limit)}"
    return Call("GET", path, lambda told: list(told["events"]))


def merge(user_id: str, anonymous: str) -> Call[Plain]:
    """Give a visitor's events to a user."""
    return Call("POST", f"/v1/users/{_quoted(user_id)}/merge/{_quoted(anonymous)}", dict)


def models() -> Call[Plain]:
    """Read versions and what is in use."""
    return Call("GET", "/v1/models", dict)


def activate(version: str) -> Call[Plain]:
    """Answer with a version."""
    return Call("POST", f"/v1/models/{_quoted(version)}/activate", dict)


def roll_back() -> Call[Plain]:
    """Answer with the version before; asked twice it would go back twice."""
    return Call("POST", "/v1/models/rollback", dict, again=False)


def shadow(version: str | None) -> Call[Plain]:
    """Let a version rank in the shadow; none for nobody."""
    if version is None:
        return Call("DELETE", "/v1/models/shadow", dict)
    return Call("POST", f"/v1/models/{_quoted(version)}/shadow", dict)


def experiments() -> Call[list[Plain]]:
    """Read who sees which variant."""
    return Call("GET", "/v1/experiments", lambda told: list(told["experiments"]))


def put_experiment(
    name: str, variants: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> Call[Plain]:
    """Begin or change an experiment."""
    body = {"variants": [dict(one) for one in variants], **options}
    return Call("PUT", f"/v1/experiments/{_quoted(name)}", dict, body)


def stop_experiment(name: str) -> Call[Plain]:
    """End an experiment."""
    return Call("DELETE", f"/v1/experiments/{_quoted(name)}", dict)


def ready() -> Call[Plain]:
    """Ask whether requests can be answered."""
    return Call("GET", "/readyz", dict)


def export_path(table: Table, form: str) -> str:
    """Return where a table is exported."""
    return f"/v1/export{_query(format=form, table=table)}"


def pause_s(attempt: int, retries: int, answer: httpx.Response | None) -> float | None:
    """Return the seconds to wait before the next try; None if there is none."""
    if attempt >= retries or (answer is not None and answer.status_code not in AGAIN):
        return None
    told = None if answer is None else answer.headers.get("retry-after")
    if told is not None and told.isdigit():
        return min(float(told), LONGEST_PAUSE_S)
    # chance keeps clients that failed together from coming back together
    pause = min(LONGEST_PAUSE_S, 0.1 * 2.0**attempt)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311  # nosec B311


def content_of(answer: httpx.Response) -> Any:
    """Return an answer as plain values; raises EndpointError for one that is an error."""
    if answer.is_success:
        return answer.json()
    try:
        content = answer.json()
        if "accepted" in content:  # every row was rejected, and each is named
            return content
        told = content["error"]
    except (ValueError, LookupError, TypeError):
        told = {"code": "no_answer", "message": answer.text[:200]}
    raise EndpointError(answer.status_code, told["code"], told["message"])


def headers(key: str | None) -> dict[str, str]:
    """Return what names the caller; raises ValueError for what can be no key."""
    if key is not None and not key.isascii():
        raise ValueError("the key holds characters that no key has; give it as `keys add` printed it")
    return {} if key is None else {"X-API-Key": key}


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _query(**given: Any) -> str:
    pairs = [f"{name}={quote(str(value), safe='')}" for name, value in given.items() if value is not None]
    return f"?{'&'.join(pairs)}" if pairs else ""
