"""What routes ask for by type: the app's parts, the recommender in use and the bounded body."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from recsys.recommender import Recommender
from serving.engine import Engine
from serving.observability import Metrics
from serving.problems import NotReady, Problem
from serving.settings import Settings
from serving.store import Store

# An answer sent while much of the body is still on its way is lost when the connection closes; a body beyond
# this multiple of the limit is not read to its end all the same.
_DISCARD = 8


@dataclass(frozen=True)
class Service:
    """The parts of one running app."""

    settings: Settings
    engine: Engine
    store: Store
    metrics: Metrics
    preparing: set[str] = field(default_factory=set)  # what must end before requests are answered

    def ready(self) -> Recommender:
        """Return the recommender in use; raises NotReady if requests cannot be answered yet."""
        recommender = self.engine.current
        if recommender is None or self.preparing:
            raise NotReady([*sorted(self.preparing), *(["a bundle"] if recommender is None else [])])
        return recommender


async def service_of(request: Request) -> Service:
    """Return the parts of the app that serves a request."""
    service: Service = request.app.state.service
    return service


async def bounded_body(request: Request) -> bytes:
    """Return the body; raises Problem (413) if it is larger than the settings allow."""
    limit = (await service_of(request)).settings.max_body_bytes
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > _DISCARD * limit:
            break
    if size > limit:
        raise Problem(
            413,
            "body_too_large",
            f"the body is over {limit} bytes, the most allowed; send less, or raise RECSYS_MAX_BODY_BYTES",
        )
    return b"".join(parts)


CurrentService = Annotated[Service, Depends(service_of)]
Body = Annotated[bytes, Depends(bounded_body)]
