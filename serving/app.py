"""The app factory: `uvicorn --factory serving.app:create_app`, configured by RECSYS_ variables."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import torch
from fastapi import FastAPI

from recsys.artifacts.registry import Registry
from recsys.recommender import Recommender, load_recommender
from serving.dependencies import Service
from serving.engine import Engine, warm_up
from serving.history_import import import_history
from serving.observability import Metrics
from serving.problems import install_handlers
from serving.routes import events, health, recommend, users
from serving.settings import Settings
from serving.sql_store import open_sqlite_store

log = logging.getLogger(__name__)

IMPORT = "the import of RECSYS_HISTORY"
DESCRIPTION = "Recommendations that adapt to a user within a handful of events, with exact propensities."


def create_app(
    settings: Settings | None = None, load: Callable[[Path], Recommender] = load_recommender
) -> FastAPI:
    """Return the endpoint; nothing is opened or loaded before it starts."""
    app = FastAPI(
        title="metaq",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=_lifespan(settings or Settings(), load),
    )
    install_handlers(app)
    for routes in (recommend, events, users, health):
        app.include_router(routes.router)
    return app


def _lifespan(
    settings: Settings, load: Callable[[Path], Recommender]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(1)  # a request is too small to share; workers are how cores are used
        recommender = load(
            settings.bundle or Registry(settings.registry).resolve(settings.name, settings.alias)
        )
        warm_up(recommender)
        store = open_sqlite_store(
            settings.store,
            max_pending=settings.max_pending_writes,
            busy_timeout_s=settings.busy_timeout_s,
            synced=settings.synchronous == "full",
        )
        preparing = {IMPORT} if settings.history is not None else set()
        service = Service(settings, Engine(recommender), store, Metrics(lambda: store.pending), preparing)
        service.metrics.show_bundle(recommender.version)
        app.state.service = service
        gc.collect()
        gc.freeze()  # the libraries' own objects live on; looking them through stalls every request at once
        importing = asyncio.create_task(_warm_users(service)) if settings.history is not None else None
        try:
            yield
        finally:
            if importing is not None:
                await importing
            await store.close()

    return lifespan


async def _warm_users(service: Service) -> None:
    """Import the history while /readyz says so; an import that fails leaves the app unready."""
    settings, recommender = service.settings, service.engine.current
    assert settings.history is not None  # noqa: S101 - the caller has looked
    try:
        kept = await asyncio.to_thread(
            import_history,
            settings.store,
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
