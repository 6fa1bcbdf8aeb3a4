"""A tiny bundle, an app in this process, and a real server process, for the endpoint's tests."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys.recommender import Recommender, load_recommender
from serving.app import create_app
from serving.settings import Settings
from tests.factories import write_tiny_bundle
from tests.serving.app_client import AppClient
from tests.serving.server import Server, running_server


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "v1")


@pytest.fixture(scope="session")
def recommender(bundle: Path) -> Recommender:
    return load_recommender(bundle)


@pytest.fixture
def make_client(bundle: Path, tmp_path: Path) -> Iterator[Callable[..., AppClient]]:
    """Start apps in this process; keyword arguments are settings."""
    with ExitStack() as stack:

        def make(**settings: object) -> AppClient:
            app = create_app(
                Settings(**{"bundle": bundle, "store": tmp_path / "store.sqlite", "auth": "off", **settings})
            )
            return stack.enter_context(AppClient(app))

        yield make


@pytest.fixture
def client(make_client: Callable[..., AppClient]) -> AppClient:
    return make_client()


@pytest.fixture(scope="session")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server process shared by tests that each use users of their own."""
    with running_server(bundle, tmp_path_factory.mktemp("server") / "store.sqlite") as running:
        yield running


@pytest.fixture
def click(recommender: Recommender) -> Callable[..., dict[str, object]]:
    """Make events of the tiny bundle's items and types."""
    catalogue, kind = recommender.catalogue, recommender.event_types[-1]

    def make(user: str, item: int = 0, **fields: object) -> dict[str, object]:
        return {"user": user, "item_id": catalogue.item_ids[item], "event_type": kind, **fields}

    return make


@pytest.fixture
def run() -> Iterator[Callable[..., object]]:
    """Run coroutines on one event loop."""
    with asyncio.Runner() as runner:
        yield runner.run
