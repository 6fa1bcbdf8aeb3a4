"""Puts the console into an app."""

from fastapi import FastAPI

from serving.console import api, pages
from serving.console.state import Console


def install(app: FastAPI) -> None:
    """Add pages, their files and what they ask for."""
    app.state.console = Console()
    app.include_router(pages.router)
    app.include_router(api.router)
    app.mount(pages.ASSETS, pages.assets(), name="console")


async def stop(app: FastAPI) -> None:
    """End what goes on beside requests, where there is a console."""
    console: Console | None = getattr(app.state, "console", None)
    if console is not None:
        await console.estimate.stop()
