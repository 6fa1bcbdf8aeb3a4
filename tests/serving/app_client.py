"""Asks an app in this process, without a socket: its start-up and shutdown included."""

import asyncio
from typing import Any, Self

import httpx
from fastapi import FastAPI

from serving.dependencies import Service


class AppClient:
    """A started app; leave its context to stop it."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        self._lifespan = app.router.lifespan_context(app)
        # A fault of the server is answered with 500, as a real server does, instead of raising here.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://app")

    def __enter__(self) -> Self:
        self._runner.run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._lifespan.__aexit__(None, None, None))
        self._runner.run(self._client.aclose())
        self._runner.close()

    @property
    def service(self) -> Service:
        return self.app.state.service

    def run(self, awaitable: Any) -> Any:
        return self._runner.run(awaitable)

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **content))

    def get(self, path: str, **content: Any) -> httpx.Response:
        return self.request("GET", path, **content)

    def post(self, path: str, **content: Any) -> httpx.Response:
        return self.request("POST", path, **content)

    def delete(self, path: str, **content: Any) -> httpx.Response:
        return self.request("DELETE", path, **content)

    def put(self, path: str, **content: Any) -> httpx.Response:
        return self.request("PUT", path, **content)

    def patch(self, path: str, **content: Any) -> httpx.Response:
        return self.request("PATCH", path, **content)
