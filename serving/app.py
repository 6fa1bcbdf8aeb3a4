"""The app factory: `uvicorn --factory serving.app:create_app`, configured by RECSYS_ variables."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from recsys.recommender import Recommender, load_recommender
from serving.console import install as console
from serving.dependencies import Service, known_query
from serving.examples import with_examples
from serving.fleet import Fleet, follow
from serving.gate import Desk, Gate
from serving.history_import import import_history
from serving.observability import Metrics
from serving.problems import install_handlers
from serving.routes import events, export, health, items, models, recommend, users
from serving.security import Keys
from serving.settings import Settings
from serving.spool import SpooledStore
from serving.sql_store import SqlStore, open_postgres_store, open_sqlite_store
from serving.tracing import Tracer, make_tracer

log = logging.getLogger(__name__)

IMPORT = "the import of RECSYS_HISTORY"
DESCRIPTION = "Recommendations that adapt to a user within a handful of events, with exact propensities."
Load = Callable[[Path], Recommender]


def create_app(
    settings: Settings | None = None, load: Load = load_recommender, tracer: Tracer | None = None
) -> FastAPI:
    """Return the endpoint; nothing is opened or loaded before it starts.

    Raises UserError if keys are on and there are none, or tracing is on and its packages are missing.
    """
    settings = settings or Settings()
    tracer = tracer or make_tracer(settings.tracing)
    keys = Keys(settings.api_keys) if settings.auth == "on" else None
    desk = Desk()
    app = FastAPI(
        title="metaq",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=_lifespan(settings, load, tracer, desk),
        # the framework's own pages load scripts from elsewhere
        docs_url=None if settings.console == "on" else "/docs",
        redoc_url=None if settings.console == "on" else "/redoc",
    )
    install_handlers(app)
    if settings.console == "on":
        console.install(app)
    for routes in (recommend, events, items, users, models, export):
        app.include_router(routes.router, dependencies=[Depends(known_query)])
    app.include_router(health.router)  # probes may ask as they are used to
    app.add_middleware(Gate, settings=settings, keys=keys, tracer=tracer, desk=desk)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
        )
    _declare_keys(app)
    return app


def _lifespan(
    settings: Settings, load: Load, tracer: Tracer, desk: Desk
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(1)  # a request is too small to share; workers are how cores are used
        _tell_requests(settings)
        store = open_store(settings)
        fleet = Fleet(settings, load, store)
        try:
            await fleet.start()
        except BaseException:
            await store.close()
            raise
        preparing = {IMPORT} if settings.history is not None else set()
        metrics = Metrics(lambda: store.pending)
        service = Service(settings, fleet, store, metrics, tracer, preparing=preparing)
        models.show(service)
        app.state.service = service
        desk.hot = {**recommend.hot(service), **events.hot(service)}
        desk.metrics = metrics
        gc.collect()
        gc.freeze()  # the libraries' own objects live on; looking them through stalls every request at once
        following = asyncio.create_task(follow(fleet, settings.refresh_s, lambda: models.show(service)))
        importing = asyncio.create_task(_warm_users(service)) if settings.history is not None else None
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait([following])
            await console.stop(app)
            if importing is not None:
                await importing
            if fleet.running:
                await asyncio.wait(fleet.running)
            await store.close()

    return lifespan


def open_store(settings: Settings) -> SqlStore | SpooledStore:
    """Open what the settings name; raises UserError if it cannot be."""
    synced = settings.synchronous == "full"
    file = open_sqlite_store(
        settings.store,
        max_pending=settings.max_pending_writes,
        busy_timeout_s=settings.busy_timeout_s,
        synced=synced,
    )
    if settings.database is None:
        return file
    database = open_postgres_store(
        settings.database,
        max_pending=settings.max_pending_writes,
        timeout_s=settings.database_timeout_s,
        synced=synced,
        readers=settings.database_readers,
    )
    spooled = SpooledStore(database, file)
    spooled.start()
    return spooled


async def _warm_users(service: Service) -> None:
    """Import the history while /readyz says so; an import that fails leaves the app unready."""
    settings, recommender = service.settings, service.fleet.current
    assert settings.history is not None  # noqa: S101 - the caller has looked
    try:
        kept = await asyncio.to_thread(
            import_history,
            settings.database or settings.store,
            settings.history,
            settings.history_events,
            settings.users,
            impressions=recommender is not None and recommender.reads_impressions,
        )
    except Exception as error:
        service.preparing.add(f"a history that can be imported ({error})")
        log.exception("the history cannot be imported")
    else:
        log.info("imported %d events of warm users", kept)
    service.preparing.discard(IMPORT)


def _tell_requests(settings: Settings) -> None:
    """Write a line a request to standard error, unless somebody else has set up logging or it is off."""
    requests = logging.getLogger("serving.requests")
    if settings.log == "json" and not requests.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        requests.addHandler(handler)
        requests.setLevel(logging.INFO)
        requests.propagate = False


def _declare_keys(app: FastAPI) -> None:
    """Say in the document how a key is sent, and show what is answered."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = with_examples(plain())
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        for path, methods in document["paths"].items():
            for operation in methods.values() if path.startswith("/v1/") else ():
                operation["security"] = [{"key": []}, {"bearer": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
