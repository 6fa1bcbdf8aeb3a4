"""What routes ask for by type: the app's parts and the bounded body."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from serving.engine import Costs
from serving.fleet import Fleet, Snapshot
from serving.gate import bounded_body
from serving.observability import Metrics
from serving.problems import INVALID, NotReady, Problem, shown
from serving.settings import Settings
from serving.store import Store
from serving.tracing import Tracer


@dataclass(frozen=True)
class Service:
    """The parts of one running app."""

    settings: Settings
    fleet: Fleet
    store: Store
    metrics: Metrics
    tracer: Tracer = field(default_factory=Tracer)
    costs: Costs = field(default_factory=Costs)
    preparing: set[str] = field(default_factory=set)  # what must end before requests are answered

    def ready(self) -> Snapshot:
        """Return the models in use; raises NotReady if requests cannot be answered yet."""
        if self.preparing or self.fleet.snapshot is None:
            missing = ["a bundle"] if self.fleet.snapshot is None else []
            raise NotReady([*sorted(self.preparing), *missing])
        return self.fleet.snapshot


async def service_of(request: Request) -> Service:
    """Return the parts of the app that serves a request."""
    service: Service = request.app.state.service
    return service


async def body_of(request: Request) -> bytes:
    """Return the body; raises Problem (413) if it is larger than the settings allow."""
    limit = (await service_of(request)).settings.max_body_bytes
    return await bounded_body(request.scope, request.receive, limit)


async def known_query(request: Request) -> None:
    """Check that a link names no parameter that its route does not take; raises Problem (422)."""
    if request.method != "GET" or not request.query_params:
        return
    route: APIRoute = request.scope["route"]
    taken = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in taken:
            raise Problem(
                422,
                INVALID,
                f"{shown(name)} is not a parameter of {route.path_format}: it takes {', '.join(taken) or 'none'}; "
                "correct the spelling or leave it out",
            )


CurrentService = Annotated[Service, Depends(service_of)]
Body = Annotated[bytes, Depends(body_of)]
