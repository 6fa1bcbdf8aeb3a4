"""What the endpoint wrote of a request beside the items it showed: filter, variant, catalogue, draws, what answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from recsys.ask import Ask, ask_of
from recsys.errors import UserError


@dataclass(frozen=True)
class LoggedLine:
    """One request as the endpoint answered it."""

    ask: Ask  # its rung is the step of the ladder that answered
    served_by: str
    candidates: int | None  # how many could have been shown
    events_kept: bool  # the events that were read stand in the ask
    inline: bool = False  # they came along and are stored nowhere


def line_text(
    told: Mapping[str, Any],
    *,
    seed: int,
    served_by: str,
    candidates: int | None,
    with_events: bool,
    inline: bool = False,
) -> str:
    """Return a request as the column `request` of a log holds it; `told` is what `recsys.ask.told_of` wrote."""
    kept = {
        **{name: value for name, value in told.items() if name not in ("events", "notes", "candidates")},
        "events": told.get("events") if with_events else None,
        "seed": seed,
        "served_by": served_by,
        "candidates": candidates,
        **({"inline": True} if inline else {}),
    }
    return orjson.dumps(kept).decode()


def line_of(text: str, user: str) -> LoggedLine:
    """Return what `line_text` wrote; raises UserError if it is something else."""
    try:
        told = orjson.loads(text)
        ask = ask_of(told, user=user, session=None, seed=told["seed"])
        return LoggedLine(
            ask, told["served_by"], told.get("candidates"), told["events"] is not None, "inline" in told
        )
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"the request of a list of {user} cannot be read ({error!r}); export the log again, or drop its column "
            "`request`"
        ) from None
