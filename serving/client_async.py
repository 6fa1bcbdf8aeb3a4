"""The endpoint's client for programs with an event loop; the same methods as `serving.client.Client`."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from serving import client_routes as routes
from serving.client_routes import Call, Plain, Recommendations, Table, Taken

T = TypeVar("T")


class AsyncClient:
    """Asks without holding up an event loop."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 5.0, retries: int = 4, **options: Any
    ) -> None:
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=url, headers=routes.headers(key), timeout=timeout_s, **options
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def recommend(self, user: str | None, n: int = 10, **options: Any) -> Recommendations:
        """Return the best items for a user; `options` are those of POST /v1/recommend."""
        return await self._do(routes.recommend(user, n, options))

    async def recommend_to_session(
        self, events: Sequence[Mapping[str, Any]], n: int = 10, **options: Any
    ) -> Recommendations:
        """Return the best items for a visitor whose events come along and are not stored."""
        return await self._do(routes.recommend_to_session(events, n, options))

    async def next(self, recommendation_id: str, n: int | None = None) -> Recommendations:
        """Return the list after a list."""
        return await self._do(routes.next_list(recommendation_id, n))

    async def rank(self, user: str | None, items: Sequence[str], **options: Any) -> Recommendations:
        """Return the best order of some items."""
        return await self._do(routes.rank(user, items, options))

    async def similar(self, item_id: str, n: int = 10, category: str | None = None) -> list[Plain]:
        """Return the items most like one."""
        return await self._do(routes.similar(item_id, n, category))

    async def onboarding(self, n: int = 10, user: str | None = None) -> list[Plain]:
        """Return what to show a new user first."""
        return await self._do(routes.onboarding(n, user))

    async def send(self, events: Sequence[Mapping[str, Any]]) -> Taken:
        """Keep events; they are durable when this returns."""
        return await self._do(routes.send(events))

    async def item(self, item_id: str) -> Plain:
        """Return an item."""
        return await self._do(routes.item("GET", item_id))

    async def put_item(self, item_id: str, **fields: Any) -> Plain:
        """Let an item be as the fields say, whole."""
        return await self._do(routes.item("PUT", item_id, fields))

    async def change_item(self, item_id: str, **fields: Any) -> Plain:
        """Change the given fields of an item."""
        return await self._do(routes.item("PATCH", item_id, fields))

    async def delete_item(self, item_id: str) -> Plain:
        """Take an item out of every list."""
        return await self._do(routes.item("DELETE", item_id))

    async def put_items(self, items: Sequence[Mapping[str, Any]]) -> Plain:
        """Put many items at once, each with its item_id."""
        return await self._do(routes.put_items(items))

    async def user(self, user_id: str) -> Plain:
        """Return what is known of a user."""
        return await self._do(routes.user("GET", user_id))

    async def put_user(self, user_id: str, **attributes: str) -> Plain:
        """Know a user by these attributes."""
        return await self._do(routes.user("PUT", user_id, attributes))

    async def forget(self, user_id: str) -> Plain:
        """Delete a user; the answer counts what is left."""
        return await self._do(routes.user("DELETE", user_id))

    async def user_events(self, user_id: str, limit: int = 100) -> list[Plain]:
        """Return a user's newest events."""
        return await self._do(routes.user_events(user_id, limit))

    async def merge(self, user_id: str, anonymous: str) -> Plain:
        """Give a visitor's events to a user."""
        return await self._do(routes.merge(user_id, anonymous))

    async def models(self) -> Plain:
        """Return versions, aliases and what is in use."""
        return await self._do(routes.models())

    async def activate(self, version: str) -> Plain:
        """Answer with a version from now on."""
        return await self._do(routes.activate(version))

    async def roll_back(self) -> Plain:
        """Answer with the version before; never asked twice."""
        return await self._do(routes.roll_back())

    async def shadow(self, version: str | None) -> Plain:
        """Let a version rank beside the one in use; none for nobody."""
        return await self._do(routes.shadow(version))

    async def experiments(self) -> list[Plain]:
        """Return the experiments that run."""
        return await self._do(routes.experiments())

    async def put_experiment(self, name: str, variants: Sequence[Mapping[str, Any]], **options: Any) -> Plain:
        """Begin or change an experiment."""
        return await self._do(routes.put_experiment(name, variants, options))

    async def stop_experiment(self, name: str) -> Plain:
        """End an experiment."""
        return await self._do(routes.stop_experiment(name))

    async def ready(self) -> Plain:
        """Return whether requests can be answered; raises EndpointError while they cannot."""
        return await self._do(routes.ready())

    async def export(self, to: Path | str, table: Table = "events", form: str = "parquet") -> Path:
        """Write a table of what was served and done to a file, a piece at a time; return the file."""
        path = Path(to)
        async with self._http.stream("GET", routes.export_path(table, form)) as answer:
            if not answer.is_success:
                await answer.aread()
                routes.content_of(answer)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                async for part in answer.aiter_bytes():
                    out.write(part)
        return path

    async def _do(self, call: Call[T]) -> T:
        return call.read(await self.request(call.method, call.path, call.body, again=call.again))

    async def request(self, method: str, path: str, body: Any = None, *, again: bool = True) -> Any:
        """Return any answer as plain values; raises EndpointError or httpx.TransportError after all tries."""
        attempt, retries = 0, self._retries if again else 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = await self._http.request(method, path, json=body)
            except httpx.TransportError:
                if routes.pause_s(attempt, retries, None) is None:
                    raise
            pause_s = routes.pause_s(attempt, retries, answer)
            if answer is not None and pause_s is None:
                return routes.content_of(answer)
            await asyncio.sleep(pause_s or 0.0)
            attempt += 1
