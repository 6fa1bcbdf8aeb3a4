"""From the rows of a batch to events to store: each row is judged alone, so a bad one costs no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from recsys import columns
from recsys.recommender import Recommender
from serving.identifiers import new_id
from serving.problems import sentences, shown
from serving.schemas import Event, ImpressionEvent, ItemEvent, UserEvent
from serving.store import EventRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Judged:
    """The rows of a batch, told apart."""

    admitted: list[EventRow] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)  # (row, why)
    items: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # id, fields
    users: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # id, attributes
    shown: list[list[EventRow]] = field(default_factory=list)  # of a row that names what was shown

    @property
    def rows(self) -> int:
        """How many rows of the batch may be kept."""
        return len(self.admitted) + len(self.items) + len(self.users) + len(self.shown)


def judge(
    rows: Sequence[object],
    recommender: Recommender,
    now_us: int,
    max_clock_skew_s: int,
    unread: Mapping[int, str] | None = None,
) -> Judged:
    """Return which rows may be stored, and what is wrong with the others; `unread` says what of rows that are none."""
    judged = Judged()
    for index, row in enumerate(rows):
        if unread and index in unread:
            judged.rejected.append((index, unread[index]))
            continue
        try:
            _sort_in(judged, row, recommender, now_us, max_clock_skew_s)
        except ValidationError as error:
            judged.rejected.append((index, sentences(error.errors(include_url=False), 3)))
        except ValueError as error:
            judged.rejected.append((index, str(error)))
    return judged


def _sort_in(
    judged: Judged, row: object, recommender: Recommender, now_us: int, max_clock_skew_s: int
) -> None:
    kind = row.get("type", "interaction") if isinstance(row, dict) else "interaction"
    if kind == "interaction":
        judged.admitted.append(_admit(Event.model_validate(row), recommender, now_us, max_clock_skew_s))
    elif kind == "impression":
        shown_event = ImpressionEvent.model_validate(row)
        judged.shown.append(_shown(shown_event, recommender, now_us, max_clock_skew_s))
    elif kind == "item":
        item = ItemEvent.model_validate(row)
        judged.items.append((item.item_id, item.model_dump(exclude={"type", "item_id"})))
    elif kind == "user":
        user = UserEvent.model_validate(row)
        judged.users.append((user.user, user.attributes))
    else:
        raise ValueError(
            f"type is {shown(kind)}: not one of interaction, impression, item, user; send one of these, or leave it "
            "out for an interaction"
        )


def _shown(
    event: ImpressionEvent, recommender: Recommender, now_us: int, max_clock_skew_s: int
) -> list[EventRow]:
    """Return what was shown, item by item; propensities are the server's, joined from its own line."""
    timestamp_us = _time_of(event.timestamp, now_us, max_clock_skew_s)
    for item in event.items:
        _check_item(item, recommender)
    key = event.event_id or new_id()
    return [
        EventRow(
            event_id=f"{key}:{position}",
            user_id=event.user,
            session_id=event.session,
            timestamp_us=timestamp_us,
            item_id=item,
            event_type=columns.IMPRESSION,
            value=None,
            recommendation_id=event.recommendation_id,
            position=position,
        )
        for position, item in enumerate(event.items)
    ]


def _check_item(item_id: str, recommender: Recommender) -> None:
    if item_id not in recommender.catalogue.index_of:
        raise ValueError(
            f"item_id is {shown(item_id)}: not in the catalogue of {recommender.version}; send an id "
            "of its item table, or put the item first (PUT /v1/items/{item_id})"
        )


def _time_of(timestamp: float | str | None, now_us: int, max_clock_skew_s: int) -> int:
    timestamp_us = now_us if timestamp is None else moment_us(timestamp)
    if timestamp_us > now_us + max_clock_skew_s * 1_000_000:
        raise ValueError(
            f"timestamp is {shown(timestamp)}: more than {max_clock_skew_s} s after now; send seconds "
            "(not milliseconds) since 1970 or ISO 8601, or set the clock"
        )
    return timestamp_us


def _admit(event: Event, recommender: Recommender, now_us: int, max_clock_skew_s: int) -> EventRow:
    _check_item(event.item_id, recommender)
    if event.event_type == columns.IMPRESSION and event.recommendation_id is None:
        raise ValueError(
            f"event_type is {shown(event.event_type)}: what is shown is logged when it is served; name the "
            "recommendation_id to say otherwise, or send what the user did then "
            f"({', '.join(recommender.feedback_types)})"
        )
    if event.event_type not in (*recommender.event_types, columns.IMPRESSION):
        raise ValueError(
            f"event_type is {shown(event.event_type)}: not one of {', '.join(recommender.feedback_types)}; send "
            "one of these, or configure its reward and publish a bundle"
        )
    if event.value is None and event.event_type in recommender.needs_value:
        raise ValueError(
            f"value is missing: what an event of type {shown(event.event_type)} is worth depends on it; "
            "give value (the rating, the amount, the share watched)"
        )
    timestamp_us = _time_of(event.timestamp, now_us, max_clock_skew_s)
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


def moment_us(timestamp: float | str) -> int:
    """Return microseconds since 1970; raises ValueError for a text that is no time."""
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
