"""What every request passes, as plain ASGI: a request id, the caller's key and rate, the bound on requests at once.

The hot routes are answered right here: their handlers take bytes and return bytes, so neither routing nor validation
by the framework is paid for. The framework declares the same routes for /docs and answers all the others.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.identifiers import new_id
from serving.observability import Metrics
from serving.problems import Problem, error_content, shown
from serving.security import ANYBODY, SAFE, Caller, Keys, RateLimit, foreign_page
from serving.security import Scope as KeyScope
from serving.settings import Settings, is_loopback
from serving.tracing import Tracer

log = logging.getLogger("serving.requests")
failures = logging.getLogger(__name__)

# body, headers, when it began -> status, answer
Handler = Callable[[bytes, Mapping[str, str], float], Awaitable[tuple[int, bytes]]]

OPEN = {"/", "/healthz", "/livez", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json"}
_OPEN_PREFIXES = ("/docs/", "/console/static/")
_PAGES = {"/console/users", "/console/operations"}  # shells without data, where the console is on
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_READ_BY_POST = {"/v1/recommend", "/v1/session/recommend", "/v1/rank", "/console/api/preview"}
_ADMIN = ("/v1/models", "/v1/experiments", "/v1/export", "/console/api/operations", "/console/api/estimate")
_STREAMS = "/v1/export"
# An answer sent while much of the body is still on its way is lost when the connection closes; a body beyond
# this multiple of the limit is not read to its end all the same.
_DISCARD = 8
_JSON = (b"content-type", b"application/json")


@dataclass
class Desk:
    """What a started app hands to its gate."""

    hot: Mapping[tuple[str, str], Handler] = field(default_factory=dict)  # answered before any routing
    metrics: Metrics | None = None


class Gate:
    """Wraps the app."""

    def __init__(
        self, app: ASGIApp, settings: Settings, keys: Keys | None, tracer: Tracer, desk: Desk
    ) -> None:
        self.app, self._settings, self._keys, self._tracer = app, settings, keys, tracer
        self._limit = RateLimit(settings.rate_limit, settings.rate_burst)
        self._desk = desk
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        asked = Asked(scope, send)
        try:
            caller = self._let_in(scope, asked.headers)
            asked.caller = caller.name
        except Problem as problem:
            await asked.refuse(problem)
        else:
            self.in_flight += 1
            try:
                if self._tracer.on:
                    with self._tracer.span(
                        f"{scope['method']} {asked.route}",
                        asked.headers,
                        **{"http.request.id": asked.request_id},
                    ):
                        await self._answer(scope, receive, asked, began)
                else:
                    await self._answer(scope, receive, asked, began)
            finally:
                self.in_flight -= 1
        self._tell(asked, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, asked: "Asked", began: float) -> None:
        handler = self._desk.hot.get((scope["method"], scope["path"]))
        if handler is None:
            if scope["path"].startswith(_STREAMS):
                await self.app(scope, receive, asked.send)
                return
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    await self.app(scope, receive, asked.send)
            except TimeoutError:
                if asked.status:  # the answer has begun: there is no other
                    raise
                await asked.refuse(
                    Problem(
                        503,
                        "timed_out",
                        f"no answer within {self._settings.timeout_s:g} s; try again shortly",
                        {"Retry-After": "1"},
                    )
                )
            return
        try:
            body = await self._body(scope, receive)
            status, content = await handler(body, asked.headers, began)
        except Problem as problem:
            await asked.refuse(problem)
        except Exception as error:
            failures.exception("a fault of the server (request %s)", asked.request_id)
            await asked.refuse(
                Problem(
                    500, "internal", f"{type(error).__name__}: a fault of the server; its log has the details"
                )
            )
        else:
            await asked.answer(status, content)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body; raises Problem where it is too large or its sender too slow, who would keep others out."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await bounded_body(scope, receive, self._settings.max_body_bytes)
        except TimeoutError:
            limit = f"{self._settings.timeout_s:g} s"
            raise Problem(
                503, "timed_out", f"no body within {limit}; send it in one go", {"Retry-After": "1"}
            ) from None

    def _let_in(self, scope: Scope, headers: Headers) -> Caller:
        """Return who asks; raises Problem where the key, its scope or its rate forbids, or too many ask at once."""
        path, method = scope["path"], scope["method"]
        if path in OPEN or path in _PAGES or path.startswith(_OPEN_PREFIXES):
            return ANYBODY
        caller = self._caller(scope, headers)
        needed = scope_of(method, path)
        if needed not in caller.scopes:
            self._count("scope")
            raise Problem(
                403,
                "forbidden",
                f"{method} {_what(path)} needs the scope {needed!r}, key "
                f"{caller.name!r} has {', '.join(sorted(caller.scopes))}; ask with another key",
            )
        who = caller.name or str((scope.get("client") or ("",))[0])
        if wait_s := self._limit.wait_s(who):
            self._count("rate")
            raise Problem(
                429,
                "too_many_requests",
                f"more than {self._limit.rate:g} requests a second (RECSYS_RATE_LIMIT); wait and try again",
                {"Retry-After": str(max(1, round(wait_s + 0.5)))},
            )
        if self.in_flight >= self._settings.max_in_flight:
            self._count("overload")
            raise Problem(
                503,
                "overloaded",
                f"{self.in_flight} requests are being answered, at most {self._settings.max_in_flight} may "
                "(RECSYS_MAX_IN_FLIGHT); try again shortly",
                {"Retry-After": "1"},
            )
        return caller

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        if self._keys is None:
            server = scope.get("server")
            if server and server[1] is not None and _is_address(server[0]) and not is_loopback(server[0]):
                self._count("key")
                raise Problem(
                    403,
                    "forbidden",
                    "keys are off, so only this machine may ask; set RECSYS_AUTH=on and make keys",
                )
            if scope["method"] not in SAFE and (page := foreign_page(headers, self._settings.cors_origins)):
                self._count("origin")
                raise Problem(
                    403,
                    "forbidden",
                    f"a page of {shown(page)} may not ask; name it in RECSYS_CORS_ORIGINS, or set RECSYS_AUTH=on",
                )
            return ANYBODY
        secret = headers.get("x-api-key")
        if secret is None and (given := headers.get("authorization", "")).lower().startswith("bearer "):
            secret = given[7:].strip()
        caller = self._keys.caller(secret.encode("utf-8", "surrogateescape")) if secret else None
        if caller is None:
            self._count("key")
            raise Problem(
                401,
                "unauthorized",
                "no valid API key; send one as X-API-Key, or as Authorization: Bearer",
                {"WWW-Authenticate": "Bearer"},
            )
        return caller

    def _count(self, reason: str) -> None:
        if self._desk.metrics is not None:
            self._desk.metrics.refused.labels(reason).inc()

    def _tell(self, asked: "Asked", took_s: float) -> None:
        metrics = self._desk.metrics
        if metrics is not None:
            metrics.requests.labels(str(asked.status)).inc()
            metrics.in_flight.set(self.in_flight)
        if self._settings.log == "json" and log.isEnabledFor(logging.INFO):
            line = {
                "request_id": asked.request_id,
                "method": asked.scope["method"],
                "route": asked.route,
                "status": asked.status,
                "ms": round(took_s * 1e3, 3),
                "key": asked.caller,
            }
            log.info(orjson.dumps(line).decode())


class Asked:
    """One request and what is told of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.headers = Headers(scope=scope)
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        self.status = 0
        self.caller = ""

    @property
    def route(self) -> str:
        """The path without the ids in it, which may be a person's."""
        route = self.scope.get("route")
        if route is not None:
            return str(route.path)
        path: str = self.scope["path"]
        return (
            path
            if path in OPEN or path in _READ_BY_POST or path == "/v1/events"
            else "/".join(path.split("/")[:3])
        )

    async def send(self, message: Message) -> None:
        """Pass a message on, with the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        await self._send(message)

    async def answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send JSON."""
        more = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        start: dict[str, Any] = {
            "type": "http.response.start",
            "status": status,
            "headers": [_JSON, (b"content-length", str(len(content)).encode()), *more],
        }
        await self.send(start)
        await self.send({"type": "http.response.body", "body": content})

    async def refuse(self, problem: Problem) -> None:
        """Send why not."""
        await self.answer(problem.status, error_content(problem.code, problem.message), problem.headers)


def _what(path: str) -> str:
    """Return what a path is about, without the ids in it."""
    parts = path.removeprefix("/console").split("/")
    return parts[2] if len(parts) > 2 else path


def scope_of(method: str, path: str) -> KeyScope:
    """Return the scope that a request needs."""
    if path.startswith(_ADMIN):
        return "admin"
    if method in SAFE or path in _READ_BY_POST:
        return "read"
    return "write"


async def bounded_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body; raises Problem (413) if it is larger than the limit."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "disconnected", "the caller has gone")
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        if size > _DISCARD * limit or not message.get("more_body", False):
            break
    if size > limit:
        raise Problem(
            413,
            "body_too_large",
            f"the body is over {limit} bytes, the most allowed; send less, or raise RECSYS_MAX_BODY_BYTES",
        )
    return b"".join(parts) if len(parts) != 1 else parts[0]


def _is_address(host: str) -> bool:
    return bool(host) and (host[0].isdigit() or ":" in host)
