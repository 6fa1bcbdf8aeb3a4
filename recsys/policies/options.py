"""Options of a baseline as a config gives them: checked by name, kind and bound, refused in one line."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from recsys.errors import UserError
from recsys.policies.popularity import PopularityOptions
from recsys.policies.storage import KINDS

PLACE = "baseline.options"
_AT_LEAST_ONE = frozenset(
    (
        *(
            "features",
            "hidden",
            "layers",
            "max_events",
            "horizon",
            "epochs",
            "patience",
            "batch_size",
            "negatives",
        ),
        *("sweeps", "sample", "last_events", "max_items"),
    )
)
_ABOVE_ZERO = frozenset(("l2", "learning_rate", "half_life_days", "window_days"))
_BELOW_ONE = frozenset(("dropout", "id_dropout"))
_POPULARITY = "popularity"  # the one option that has options of its own


def options_of(kind: str, given: Mapping[str, Any]) -> Any:
    """Return the frozen options of a kind, its defaults where nothing is given.

    Raises UserError, one line, at the first name or value that is refused.
    """
    _, options = KINDS[kind]
    _check_names(options, given, PLACE)
    if isinstance(below := given.get(_POPULARITY), Mapping):
        _check_names(PopularityOptions, below, f"{PLACE}.{_POPULARITY}")
    try:
        chosen: Any = TypeAdapter(options).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join((PLACE, *map(str, first["loc"])))
        said = first["msg"].split(", unable")[0]
        raise UserError(f"{where} is {first['input']!r}: {said}; set it with --set {where}=…") from None
    _check_bounds(chosen, PLACE)
    return chosen


def _check_names(options: type[Any], given: Mapping[str, Any], place: str) -> None:
    known = [field.name for field in fields(options)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"it takes: {', '.join(known)}"
            raise UserError(f"unknown option {place}.{name}; {remedy}")


def _check_bounds(options: Any, place: str) -> None:
    for field in fields(options):
        value, where = getattr(options, field.name), f"{place}.{field.name}"
        if is_dataclass(value):
            _check_bounds(value, where)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            bound = _broken_bound(field.name, value)
            if bound:
                raise UserError(f"{where} is {value:g}, must be {bound}; set it with --set {where}=…")


def _broken_bound(name: str, value: float) -> str:
    if name in _AT_LEAST_ONE and value < 1:
        return "at least 1"
    if name in _ABOVE_ZERO and not value > 0:
        return "above 0"
    if name in _BELOW_ONE and not value < 1:
        return "below 1"
    return "" if 0 <= value < float("inf") else "a finite number that is not negative"
