"""The console's pages: server-rendered shells without anybody's data, their scripts and styles, none from elsewhere.

What a page shows of items and users it asks the API for, with the key that was entered; so the shells are open, and
RECSYS_AUTH guards what it guarded before.
"""

from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from serving.dependencies import CurrentService, Service
from serving.routes.health import welcome

HERE: Final = Path(__file__).parent
ASSETS: Final = "/console/static"
PAGES: Final = ("/", "/console/users", "/console/operations", "/docs")

# Scripts and styles are files of this server; nothing is inline, framed, or asked for from elsewhere, and scripts
# cannot turn text into markup.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

router = APIRouter(include_in_schema=False)

_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class Assets(StaticFiles):
    """Files that browsers ask again for, and get only if they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file with the headers of pages."""
        response = super().file_response(*args, **kwargs)
        response.headers.update({**HEADERS, "Cache-Control": "no-cache"})
        return response


def assets() -> Assets:
    """Return what serves scripts and styles."""
    return Assets(directory=HERE / "static")


@router.get("/")
async def try_it(request: Request, service: CurrentService) -> Response:
    """Show the console to browsers; programs are pointed to the documentation, as ever."""
    if "text/html" not in request.headers.get("accept", ""):
        answer = await welcome()
    else:
        answer = _page("try.html", service)
    answer.headers["Vary"] = "Accept"
    return answer


@router.get("/console/users")
async def users(service: CurrentService) -> Response:
    """Show the page that looks up a user."""
    return _page("users.html", service)


@router.get("/console/operations")
async def operations(service: CurrentService) -> Response:
    """Show the page of rates, models and the live estimate."""
    return _page("operations.html", service)


@router.get("/docs")
async def documentation(service: CurrentService) -> Response:
    """Show the API's document."""
    return _page("docs.html", service)


def _page(name: str, service: Service) -> HTMLResponse:
    recommender = service.fleet.current
    content = _TEMPLATES.get_template(name).render(
        model=None if recommender is None else recommender.version,
        items=0 if recommender is None else recommender.allowed().count,
        keys=service.settings.auth == "on",
        page=name,
    )
    return HTMLResponse(content, headers={**HEADERS, "Cache-Control": "no-store"})
