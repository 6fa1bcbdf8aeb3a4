"""The endpoint's client: `Client` and `AsyncClient`, with the same methods; needs httpx (the extra "client").

    with Client("http://127.0.0.1:8000", key="mq_…") as client:
        answer = client.recommend("u-17", n=10)
        client.send([event("u-17", answer.items[0].item_id, "click", recommendation_id=answer.recommendation_id)])

What fails for a moment (no connection, 429, 502, 503, 504) is tried again after a growing pause, or as Retry-After
says. Every event is given an id before it is first sent, so that trying again never counts it twice.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import httpx
from pydantic import BaseModel

_AGAIN: Final = {429, 502, 503, 504}
_LONGEST_PAUSE_S: Final = 10.0


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


class _Requests:
    """What both clients ask, as (method, path, body, what the answer is read as)."""

    def __init__(self, retries: int) -> None:
        self._retries = retries

    @staticmethod
    def _recommend(user: str | None, n: int, options: Mapping[str, Any]) -> tuple[str, str, Any]:
        body = {"n": n, **options}
        return "POST", "/v1/recommend", body if user is None else {"user": user, **body}

    @staticmethod
    def _send(events: Sequence[Mapping[str, Any]]) -> tuple[str, str, Any]:
        told = [one if "event_id" in one else {"event_id": uuid.uuid4().hex, **one} for one in events]
        return "POST", "/v1/events", told

    def _pause_s(self, attempt: int, answer: httpx.Response | None) -> float | None:
        """Return the seconds to wait before the next try; None if there is none."""
        if attempt >= self._retries or (answer is not None and answer.status_code not in _AGAIN):
            return None
        told = None if answer is None else answer.headers.get("retry-after")
        if told is not None and told.isdigit():
            return min(float(told), _LONGEST_PAUSE_S)
        # chance keeps clients that failed together from coming back together
        pause = min(_LONGEST_PAUSE_S, 0.1 * 2.0**attempt)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311  # nosec B311

    @staticmethod
    def _read(answer: httpx.Response) -> Any:
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


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"X-API-Key": key}


class Client(_Requests):
    """Asks and waits."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 5.0, retries: int = 4, **options: Any
    ) -> None:
        super().__init__(retries)
        self._http = httpx.Client(base_url=url, headers=_headers(key), timeout=timeout_s, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def recommend(self, user: str | None, n: int = 10, **options: Any) -> Recommendations:
        """Return the best items for a user; `options` are those of POST /v1/recommend."""
        return Recommendations.model_validate(self.request(*self._recommend(user, n, options)))

    def recommend_to_session(
        self, events: Sequence[Mapping[str, Any]], n: int = 10, **options: Any
    ) -> Recommendations:
        """Return the best items for a visitor whose events come along and are not stored."""
        body = {"events": list(events), "n": n, **options}
        return Recommendations.model_validate(self.request("POST", "/v1/session/recommend", body))

    def next(self, recommendation_id: str) -> Recommendations:
        """Return the list after a list."""
        return Recommendations.model_validate(self.request("GET", f"/v1/recommend/next/{recommendation_id}"))

    def rank(self, user: str | None, items: Sequence[str], **options: Any) -> Recommendations:
        """Return the best order of some items."""
        body = {"items": list(items), **({} if user is None else {"user": user}), **options}
        return Recommendations.model_validate(self.request("POST", "/v1/rank", body))

    def send(self, events: Sequence[Mapping[str, Any]]) -> Taken:
        """Keep events; they are durable when this returns."""
        return Taken.model_validate(self.request(*self._send(events)))

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return any answer as plain values; raises EndpointError or httpx.TransportError after all tries."""
        attempt = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError:
                if self._pause_s(attempt, None) is None:
                    raise
            if answer is not None and self._pause_s(attempt, answer) is None:
                return self._read(answer)
            time.sleep(self._pause_s(attempt, answer) or 0.0)
            attempt += 1


class AsyncClient(_Requests):
    """Asks without holding up an event loop."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 5.0, retries: int = 4, **options: Any
    ) -> None:
        super().__init__(retries)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout_s, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def recommend(self, user: str | None, n: int = 10, **options: Any) -> Recommendations:
        """Return the best items for a user; `options` are those of POST /v1/recommend."""
        return Recommendations.model_validate(await self.request(*self._recommend(user, n, options)))

    async def recommend_to_session(
        self, events: Sequence[Mapping[str, Any]], n: int = 10, **options: Any
    ) -> Recommendations:
        """Return the best items for a visitor whose events come along and are not stored."""
        body = {"events": list(events), "n": n, **options}
        return Recommendations.model_validate(await self.request("POST", "/v1/session/recommend", body))

    async def next(self, recommendation_id: str) -> Recommendations:
        """Return the list after a list."""
        answer = await self.request("GET", f"/v1/recommend/next/{recommendation_id}")
        return Recommendations.model_validate(answer)

    async def rank(self, user: str | None, items: Sequence[str], **options: Any) -> Recommendations:
        """Return the best order of some items."""
        body = {"items": list(items), **({} if user is None else {"user": user}), **options}
        return Recommendations.model_validate(await self.request("POST", "/v1/rank", body))

    async def send(self, events: Sequence[Mapping[str, Any]]) -> Taken:
        """Keep events; they are durable when this returns."""
        return Taken.model_validate(await self.request(*self._send(events)))

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return any answer as plain values; raises EndpointError or httpx.TransportError after all tries."""
        attempt = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = await self._http.request(method, path, json=body)
            except httpx.TransportError:
                if self._pause_s(attempt, None) is None:
                    raise
            if answer is not None and self._pause_s(attempt, answer) is None:
                return self._read(answer)
            await asyncio.sleep(self._pause_s(attempt, answer) or 0.0)
            attempt += 1
