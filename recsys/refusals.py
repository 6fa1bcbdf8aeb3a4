"""One line that says why a config is refused: the key, its value, what is allowed and where to set it."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

_LONGEST_VALUE = 60  # characters
_MUST_BE = {  # where the library's words are about Python, not about a file
    "model_type": "a section with keys of its own",
    "tuple_type": "a list such as [0, 1]",
    "dict_type": "a table such as {purchase = 1.0}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": 'text, such as "mine"',
    "path_type": 'a path, such as "data/log"',
    "datetime_type": "a time such as 2011-09-01T00:00:00Z",
    "datetime_parsing": "a time such as 2011-09-01T00:00:00Z",
    "datetime_from_date_parsing": "a time such as 2011-09-01T00:00:00Z",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


def refusal(error: ValidationError, model: type[BaseModel], config: str = "the config") -> str:
    """Return one line about the first thing that a model refused; without a `config` there is --set alone."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, model, config or "--set")
    key = ".".join(part for part in path if not part.isdigit())  # of a list's element: the list
    if first["type"] == "missing":
        return f"{key} is missing; {_where(key, config)}"
    if first["type"] == "value_error":  # our own words, which name value, bound and remedy
        return first["msg"].removeprefix("Value error, ")
    value = repr(first["input"])
    if len(value) > _LONGEST_VALUE:
        value = f"{value[:_LONGEST_VALUE]}…"
    allowed = _MUST_BE.get(first["type"], first["msg"].removeprefix("Input should be "))
    return f"{'.'.join(path)} is {value}, must be {allowed}; {_where(key, config)}"


def _where(key: str, config: str) -> str:
    section, _, _ = key.rpartition(".")
    place = f"under [{section}] of" if section else "at the top of"
    return f"set it {place} {config} or with --set {key}=…" if config else f"give --set {key}=…"


def _unknown_key(path: list[str], model: type[BaseModel], config: str) -> str:
    *sections, last = path
    fields = _fields(model, sections)
    key = ".".join(path)
    near = difflib.get_close_matches(last, fields, n=1)
    if near:
        return f"unknown key {key}; did you mean {'.'.join([*sections, near[0]])}?"
    place = f"[{'.'.join(sections)}]" if sections else config
    return f"unknown key {key}; {place} takes: {', '.join(fields)}"


def _fields(model: type[BaseModel], sections: list[str]) -> Mapping[str, Any]:
    for section in sections:
        below = model.model_fields[section].annotation
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return {}
        model = below
    return model.model_fields
