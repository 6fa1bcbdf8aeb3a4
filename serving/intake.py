"""From the rows of a batch to events to store: each row is judged alone, so a bad one costs no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from recsys import columns
from recsys.recommender import Recommender
from serving.identifiers import new_id
from serving.problems import sentence, shown
from serving.schemas import Event
from serving.store import EventRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Judged:
    """The rows of a batch, told apart."""

    admitted: list[EventRow]
    rejected: list[tuple[int, str]]  # (row, why)


def judge(rows: Sequence[object], recommender: Recommender, now_us: int, max_clock_skew_s: int) -> Judged:
    """Return which rows may be stored, and what is wrong with the others."""
    judged = Judged([], [])
    for index, row in enumerate(rows):
        try:
            judged.admitted.append(_admit(Event.model_validate(row), recommender, now_us, max_clock_skew_s))
        except ValidationError as error:
            details = error.errors(include_url=False)[:3]
            judged.rejected.append((index, "; ".join(sentence(detail) for detail in details)))
        except ValueError as error:
            judged.rejected.append((index, str(error)))
    return judged


def _admit(event: Event, recommender: Recommender, now_us: int, max_clock_skew_s: int) -> EventRow:
    if event.item_id not in recommender.catalogue.index_of:
        raise ValueError(
            f"item_id is {shown(event.item_id)}: not in the catalogue of {recommender.version}; send an id "
            "of its item table, or publish a bundle that holds this item"
        )
    if event.event_type == columns.IMPRESSION:
        raise ValueError(
            f"event_type is {shown(event.event_type)}: what is shown is logged when it is served; send what the user "
            f"did then ({', '.join(recommender.feedback_types)})"
        )
    if event.event_type not in recommender.event_types:
        raise ValueError(
            f"event_type is {shown(event.event_type)}: not one of {', '.join(recommender.feedback_types)}; send "
            "one of these, or configure its reward and publish a bundle"
        )
    if event.value is None and event.event_type in recommender.needs_value:
        raise ValueError(
            f"value is missing: what an event of type {shown(event.event_type)} is worth depends on it; "
            "give value (the rating, the amount, the share watched)"
        )
    timestamp_us = now_us if event.timestamp is None else _microseconds(event.timestamp)
    if timestamp_us > now_us + max_clock_skew_s * 1_000_000:
        raise ValueError(
            f"timestamp is {shown(event.timestamp)}: more than {max_clock_skew_s} s after now; send seconds "
            "(not milliseconds) since 1970 or ISO 8601, or set the clock"
        )
    return EventRow(
        event_id=event.event_id or new_id(),
        user_id=event.user,
        session_id=event.session,
        timestamp_us=timestamp_us,
        item_id=event.item_id,
        event_type=event.event_type,
        value=event.value,
        recommendation_id=event.recommendation_id,
        position=event.position,
    )


def _microseconds(timestamp: float | str) -> int:
    if not isinstance(timestamp, str):
        return round(timestamp * 1e6)
    try:
        moment = datetime.fromisoformat(timestamp)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise ValueError(
            f"timestamp is {shown(timestamp)}: not ISO 8601; send for example '2026-01-31T12:00:00Z' or "
            "seconds since 1970"
        ) from None
    if since < timedelta(0):
        raise ValueError(f"timestamp is {shown(timestamp)}: before 1970; send a later time")
    return since // _MICROSECOND
