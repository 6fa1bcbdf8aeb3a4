"""The rows of a batch, as a body brings them: one JSON value, an array, or one a line."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from serving.problems import INVALID, Problem, malformed_json, shown

LINES: Final = "application/x-ndjson"


def parse_rows(body: bytes, headers: Mapping[str, str]) -> tuple[list[object], dict[int, str]]:
    """Return the rows, and of those that are not JSON what is wrong with them.

    Raises Problem if the body is neither JSON nor lines: those that its content type declares, or among which one
    is an object of its own.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        rows, unread = _parsed_lines(body)
        declared = headers.get("content-type", "").partition(";")[0].strip().lower() == LINES
        told = len(rows) > 1 and any(isinstance(row, dict) for row in rows)
        if declared or (told and not body.lstrip().startswith(b"[")):  # an array is broken as a whole
            return rows, unread
        raise malformed_json(str(error)) from None
    if not isinstance(parsed, dict | list):
        raise Problem(422, INVALID, f"the body is {shown(parsed)}: must be one event or an array of events")
    return (parsed if isinstance(parsed, list) else [parsed]), {}


def outcome(told: Mapping[str, Any], rejected: Sequence[tuple[int, str]], kept: int) -> tuple[bool, bytes]:
    """Return whether every row was rejected, and the answer: what is told, who was rejected, and then the error."""
    content = {**told, "rejected": [{"index": index, "error": error} for index, error in rejected]}
    refused = bool(rejected) and not kept
    if refused:
        index, error = rejected[0]
        content["error"] = {"code": INVALID, "message": f"no row was accepted; row {index}: {error}"}
    return refused, orjson.dumps(content)


def _parsed_lines(body: bytes) -> tuple[list[object], dict[int, str]]:
    rows: list[object] = []
    unread: dict[int, str] = {}
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            where = f"line {number} is not JSON: {error.msg} (column {error.colno})"
            unread[len(rows)] = f"{where}; send one JSON object a line in UTF-8"
            rows.append(None)
    return rows, unread
