"""The endpoint's client: `Client` and `AsyncClient`, with the same methods; needs httpx (the extra "client").

    with Client("http://127.0.0.1:8000") as client:  # key=… where keys are on
        answer = client.recommend("u-17", n=10)
        client.send([event("u-17", answer.items[0].item_id, "click", recommendation_id=answer.recommendation_id)])

There is a method for every route. What fails for a moment (no connection, 429, 502, 503, 504) is tried again after a
growing pause, or as Retry-After says; a roll-back is not, as it would go back twice. Every event is given an id before
it is first sent, so that trying again never counts it twice.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from serving import client_routes as routes
from serving.client_async import AsyncClient as AsyncClient
from serving.client_routes import Call, Plain, Table
from serving.client_routes import EndpointError as EndpointError
from serving.client_routes import Item as Item
from serving.client_routes import Recommendations as Recommendations
from serving.client_routes import Taken as Taken
from serving.client_routes import event as event

T = TypeVar("T")


class Client:
    """Asks and waits."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 5.0, retries: int = 4, **options: Any
    ) -> None:
        self._retries = retries
        self._http = httpx.Client(base_url=url, headers=routes.headers(key), timeout=timeout_s, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def recommend(self, user: str | None, n: int = 10, **options: Any) -> Recommendations:
        """Return the best items for a user; `options` are those of POST /v1/recommend."""
        return self._do(routes.recommend(user, n, options))

    def recommend_to_session(
        self, events: Sequence[Mapping[str, Any]], n: int = 10, **options: Any
    ) -> Recommendations:
        """Return the best items for a visitor whose events come along and are not stored."""
        return self._do(routes.recommend_to_session(events, n, options))

    def next(self, recommendation_id: str, n: int | None = None) -> Recommendations:
        """Return the list after a list."""
        return self._do(routes.next_list(recommendation_id, n))

    def rank(self, user: str | None, items: Sequence[str], **options: Any) -> Recommendations:
        """Return the best order of some items."""
        return self._do(routes.rank(user, items, options))

    def similar(self, item_id: str, n: int = 10, category: str | None = None) -> list[Plain]:
        """Return the items most like one."""
        return self._do(routes.similar(item_id, n, category))

    def onboarding(self, n: int = 10, user: str | None = None) -> list[Plain]:
        """Return what to show a new user first."""
        return self._do(routes.onboarding(n, user))

    def send(self, events: Sequence[Mapping[str, Any]]) -> Taken:
        """Keep events; they are durable when this returns."""
        return self._do(routes.send(events))

    def item(self, item_id: str) -> Plain:
        """Return an item."""
        return self._do(routes.item("GET", item_id))

    def put_item(self, item_id: str, **fields: Any) -> Plain:
        """Let an item be as the fields say, whole."""
        return self._do(routes.item("PUT", item_id, fields))

    def change_item(self, item_id: str, **fields: Any) -> Plain:
        """Change the given fields of an item."""
        return self._do(routes.item("PATCH", item_id, fields))

    def delete_item(self, item_id: str) -> Plain:
        """Take an item out of every list."""
        return self._do(routes.item("DELETE", item_id))

    def put_items(self, items: Sequence[Mapping[str, Any]]) -> Plain:
        """Put many items at once, each with its item_id."""
        return self._do(routes.put_items(items))

    def user(self, user_id: str) -> Plain:
        """Return what is known of a user."""
        return self._do(routes.user("GET", user_id))

    def put_user(self, user_id: str, **attributes: str) -> Plain:
        """Know a user by these attributes."""
        return self._do(routes.user("PUT", user_id, attributes))

    def forget(self, user_id: str) -> Plain:
        """Delete a user; the answer counts what is left."""
        return self._do(routes.user("DELETE", user_id))

    def user_events(self, user_id: str, limit: int = 100) -> list[Plain]:
        """Return a user's newest events."""
        return self._do(routes.user_events(user_id, limit))

    def merge(self, user_id: str, anonymous: str) -> Plain:
        """Give a visitor's events to a user."""
        return self._do(routes.merge(user_id, anonymous))

    def models(self) -> Plain:
        """Return versions, aliases and what is in use."""
        return self._do(routes.models())

    def activate(self, version: str) -> Plain:
        """Answer with a version from now on."""
        return self._do(routes.activate(version))

    def roll_back(self) -> Plain:
        """Answer with the version before; never asked twice."""
        return self._do(routes.roll_back())

    def shadow(self, version: str | None) -> Plain:
        """Let a version rank beside the one in use; none for nobody."""
        return self._do(routes.shadow(version))

    def experiments(self) -> list[Plain]:
        """Return the experiments that run."""
        return self._do(routes.experiments())

    def put_experiment(self, name: str, variants: Sequence[Mapping[str, Any]], **options: Any) -> Plain:
        """Begin or change an experiment."""
        return self._do(routes.put_experiment(name, variants, options))

    def stop_experiment(self, name: str) -> Plain:
        """End an experiment."""
        return self._do(routes.stop_experiment(name))

    def ready(self) -> Plain:
        """Return whether requests can be answered; raises EndpointError while they cannot."""
        return self._do(routes.ready())

    def export(self, to: Path | str, table: Table = "events", form: str = "parquet") -> Path:
        """Write a table of what was served and done to a file, a piece at a time; return the file."""
        path = Path(to)
        with self._http.stream("GET", routes.export_path(table, form)) as answer:
            if not answer.is_success:
                answer.read()
                routes.content_of(answer)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                for part in answer.iter_bytes():
                    out.write(part)
        return path

    def _do(self, call: Call[T]) -> T:
        return call.read(self.request(call.method, call.path, call.body, again=call.again))

    def request(self, method: str, path: str, body: Any = None, *, again: bool = True) -> Any:
        """Return any answer as plain values; raises EndpointError or httpx.TransportError after all tries."""
        attempt, retries = 0, self._retries if again else 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError:
                if routes.pause_s(attempt, retries, None) is None:
                    raise
            pause_s = routes.pause_s(attempt, retries, answer)
            if answer is not None and pause_s is None:
                return routes.content_of(answer)
            time.sleep(pause_s or 0.0)
            attempt += 1
