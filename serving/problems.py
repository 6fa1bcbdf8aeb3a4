"""Refusals: every error has one shape, and its message names the value, the bound and the remedy."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from serving.identifiers import ID, NAME

INVALID: Final = "invalid_request"  # the code of what is not the shape asked for, or out of bounds
SHOWN_CHARACTERS = 80  # of a refused value


class Problem(Exception):
    """A request that is refused."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


class NotReady(Problem):
    """Nothing can be answered yet."""

    def __init__(self, reasons: Sequence[str]) -> None:
        waiting = " and ".join(reasons)
        super().__init__(503, "not_ready", f"waiting for {waiting}; try again shortly", {"Retry-After": "1"})


class StoreUnavailable(Problem):
    """The store did not take a write, or did not answer."""

    def __init__(self, what: str) -> None:
        super().__init__(503, "store_unavailable", f"{what}; try again shortly", {"Retry-After": "1"})


def shown(value: object) -> str:
    """Return a refused value, cut to a length fit for a message."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


# validation error, or the pattern that does not fit -> bound and remedy; {} takes what pydantic tells of the bound,
# {unquoted} is for values in quotes
_BOUNDS: Final = {
    "greater_than_equal": "must be at least {ge}; send a larger number",
    "less_than_equal": "must be at most {le}; send a smaller number",
    "greater_than": "must be above {gt}; send a larger number",
    "less_than": "must be below {lt}; send a smaller number",
    "string_too_short": "must have at least {min_length} character; send a longer text",
    "string_too_long": "must have at most {max_length} characters; send a shorter text",
    ID: "must hold no control characters; remove them",
    NAME: "must be 1 to 64 letters a to z, digits, dots, hyphens and underscores, first a letter or digit; send such "
    "a name",
    "string_type": "must be text; send it in quotes",
    "string_unicode": "must be text in UTF-8; mend its encoding",
    "int_type": "must be a whole number; send one{unquoted}",
    "int_from_float": "must be a whole number; send one",
    "int_parsing": "must be a whole number; send one",
    "int_parsing_size": "must be a whole number of ordinary size; send a smaller one",
    "float_type": "must be a number; send one{unquoted}",
    "float_parsing": "must be a number; send one without quotes",
    "finite_number": "must be a finite number; send one",
    "bool_type": "must be true or false; send one of them{unquoted}",
    "bool_parsing": "must be true or false; send one of them",
    "literal_error": "must be {expected}; send one of these",
    "list_type": "must be an array; send [...]",
    "tuple_type": "must be an array; send [...]",
    "dict_type": "must be an object; send {{...}}",
    "model_type": "must be an object; send {{...}}",
    "model_attributes_type": "must be an object; send {{...}}",
    "too_short": "must hold at least {min_length}; send more",
    "too_long": "must hold at most {max_length}; send fewer",
}


def sentences(details: Sequence[Mapping[str, Any]], most: int) -> str:
    """Return validation errors as at most so many sentences, those of missing fields as one."""
    missing = [_name(detail) for detail in details if detail["type"] == "missing"]
    told = [_sentence(detail) for detail in details if detail["type"] != "missing" and not _is_echo(detail)]
    if missing:
        *others, last = missing[:most]
        names = f"{', '.join(others)} and {last} are missing; send them"
        told = [names if others else f"{last} is missing; send it", *told]
    return "; ".join(told[:most])


def _is_echo(detail: Mapping[str, Any]) -> bool:
    """Tell whether an array is called too short because the elements that were refused are not counted."""
    return detail["type"] == "too_short" and bool(len(detail["input"]) >= detail["ctx"]["min_length"])


def _name(detail: Mapping[str, Any]) -> str:
    place = [str(part) for part in detail["loc"]]
    if place and place[-1] == "[key]":  # of an object whose names are the caller's
        return f"a name in {place[0]}"
    return ".".join(place) or "the body"


def _sentence(detail: Mapping[str, Any]) -> str:
    """Return one validation error as a sentence: the field, its value, the bound and the remedy."""
    name = _name(detail)
    if detail["type"] == "extra_forbidden":
        return f"{name} is not a field of this request; remove it or correct its spelling (see /docs)"
    context = detail.get("ctx", {})
    kind = context.get("pattern", detail["type"])
    if kind in _BOUNDS:
        unquoted = " without quotes" if isinstance(detail["input"], str) else ""
        bound = _BOUNDS[kind].format(unquoted=unquoted, **context)
    else:
        bound = str(detail["msg"]).replace("Input should", "must").removeprefix("Value error, ")
    return f"{name} is {shown(detail['input'])}: {bound}"


def refusal(error: ValidationError) -> Problem:
    """Return the refusal of a body that is not JSON (400) or not the shape asked for (422)."""
    details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        return malformed_json(str(details[0].get("ctx", {}).get("error", details[0]["msg"])))
    return Problem(422, INVALID, sentences(details, 5))


def malformed_json(why: str) -> Problem:
    """Return the refusal of a body that does not parse."""
    return Problem(400, "malformed_json", f"the body is not JSON: {why}; send one JSON value in UTF-8")


def encoded(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer of a refusal."""
    return Response(error_content(code, message), status, headers, media_type="application/json")


def error_content(code: str, message: str) -> bytes:
    """Return the body of a refusal."""
    return orjson.dumps({"error": {"code": code, "message": message}})


def install_handlers(app: FastAPI) -> None:
    """Give every error of an app the one shape."""

    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this type only
        return encoded(error.status, error.code, error.message, error.headers)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        # the first part of the location is no field: "body", "query" or "path"
        details = [{**detail, "loc": detail["loc"][1:]} for detail in error.errors()]
        return encoded(422, INVALID, sentences(details, 5))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        phrase = HTTPStatus(error.status_code).phrase
        message = f"{request.method} {request.url.path}: {phrase.lower()}; see /docs for what there is"
        return encoded(error.status_code, phrase.lower().replace(" ", "_"), message, error.headers)

    async def on_bug(_: Request, error: Exception) -> Response:
        return encoded(
            500, "internal", f"{type(error).__name__}: a fault of the server; its log has the details"
        )

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)
