"""What the console keeps beside the endpoint's own parts."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from serving.console.live_estimate import LiveEstimator
from serving.console.search import TitleSearch


@dataclass
class Console:
    """One per app."""

    search: TitleSearch = field(default_factory=TitleSearch)
    estimate: LiveEstimator = field(default_factory=LiveEstimator)


async def console_of(request: Request) -> Console:
    """Return the console of the app that serves a request."""
    console: Console = request.app.state.console
    return console


CurrentConsole = Annotated[Console, Depends(console_of)]
