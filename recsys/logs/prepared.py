"""A prepared log: what `prepare` writes and every later step reads, memory-mapped.

Layout of the folder:

    prepared.json            counts, vocabularies, cut times (PreparedInfo)
    events/part-*.parquet    the event table, sorted by (history, time)
    items.parquet            the item table; row number = item index
    users.parquet            the user table; row number = user index
    quarantine.csv           refused rows: row number, reason, the row, the row kept of duplicates
    arrays/content.npy              (item, feature) float32
    arrays/user_attributes.npy      (user, attribute) int32, 0 = unknown
    arrays/history_offsets.npy      (history + 1,) int64
    arrays/history_user.npy         (history,) int32, -1 = anonymous session
    arrays/history_role.npy         (history,) int8, see Role
    arrays/history_train_end.npy    (history,) int64: events of the history before the cut, 0 for cold users
    arrays/item.npy event_type.npy reward.npy timestamp.npy session.npy     (event of a history,)
                           int32 int8 float32 int64 (seconds, UTC) int32 (session's ordinal in its history)

A *history* is everything one user did in time order; an anonymous session is a history of its own. Impressions are
not feedback. With `prepare.impressions = "apart"` they stand in the event table, for replay, and in none of the arrays:
lengths and sessions follow from feedback alone, and who was only shown things has no history (as a user, they come
after those who have one).

With "actions" an impression without response is an event of its history too, of type impression and with that type's
reward; who was only shown things has a history. An impression is answered by feedback of the same history that names
its recommendation and item. Then it is no event of its own: the response, at the time of the response, is what became
of it, so that no state knows of a response before it came. Feedback that names no recommendation answers nothing.
Sessions are those of the events in the histories, as they are live.

The cut, its share of the newest events, who is cold and since when are decided by feedback alone in both cases, so
the splits are the same; who never gave any is no cold user. Which items a user *has* (`had`) follows from feedback too:
what was merely shown stays a question and an answer worth giving.
"""

import json
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from recsys.columns import IMPRESSION
from recsys.config import Impressions
from recsys.errors import UserError
from recsys.types import BoolArray, ByteArray, FloatArray, IntArray, LongArray


class Role(IntEnum):
    """What a history may be used for."""

    TRAIN = 0
    COLD_VALIDATION = 1
    COLD_TEST = 2


@dataclass(frozen=True)
class PreparedInfo:
    """Facts about a prepared log that are not arrays."""

    source: str  # what was read, for people
    event_types: tuple[str, ...]  # code -> name; codes in arrays index this tuple
    user_attributes: tuple[str, ...]  # column names
    user_attribute_values: tuple[tuple[str, ...], ...]  # per attribute, code - 1 -> value (0 = unknown)
    reward_base: dict[str, float]
    reward_per_log_value: dict[str, float]
    events: int  # of the event table
    items: int
    users: int
    histories: int
    sessions: int
    quarantined: dict[str, int]  # reason -> rows
    first_event: str
    last_event: str
    test_from: str | None  # the cut, ISO 8601; None for a split by users
    validation_from: str | None
    impressions: int = 0  # among the events of the event table
    impressions_are: Impressions = "apart"  # or "actions": those without response are in the histories
    session_gap_s: float | None = None  # silence that ended a session; None where the log names sessions
    rows_read: int = 0  # source rows = events + quarantined + removed_by_rule, where a row is one event
    removed_by_rule: dict[str, int] = field(default_factory=dict)  # stated cleaning rule -> rows, no errors

    @property
    def trained_until(self) -> str:
        """The moment beyond which nothing trains: where the test begins, else the end of the log."""
        return self.test_from or self.last_event

    @property
    def shown_type(self) -> int | None:
        """Code of what was shown without response; None where histories hold no such events."""
        if self.impressions_are == "apart" or IMPRESSION not in self.event_types:
            return None
        return self.event_types.index(IMPRESSION)


@dataclass(frozen=True)
class PreparedLog:
    """Memory-mapped arrays of a prepared log."""

    root: Path
    info: PreparedInfo
    content: FloatArray
    user_attributes: IntArray
    history_offsets: LongArray
    history_user: IntArray
    history_role: ByteArray
    history_train_end: LongArray
    item: IntArray
    event_type: ByteArray
    reward: FloatArray
    timestamp: LongArray
    session: IntArray

    def with_role(self, role: Role) -> LongArray:
        """Return the indices of the histories that have one role."""
        return np.flatnonzero(self.history_role == role).astype(np.int64)


def training_histories(log: PreparedLog) -> LongArray:
    """Return the histories that have training events."""
    histories = log.with_role(Role.TRAIN)
    return histories[log.history_train_end[histories] > 0]


def identified(log: PreparedLog, histories: LongArray) -> LongArray:
    """Return the histories of identified users, or all of them where the log identifies nobody."""
    known = np.asarray(log.history_user[histories]) >= 0
    return histories[known] if known.any() else histories


def had(log: PreparedLog, event_type: ByteArray) -> BoolArray:
    """Return which events make their item the user's: all but what was shown without response; (event,)."""
    codes = np.asarray(event_type)
    return np.ones(codes.shape, bool) if log.info.shown_type is None else codes != log.info.shown_type


ARRAYS = tuple(name for name in PreparedLog.__dataclass_fields__ if name not in ("root", "info"))


def open_prepared(root: Path) -> PreparedLog:
    """Open a prepared log; raises UserError if the folder holds none."""
    path = root / "prepared.json"
    if not path.is_file():
        raise UserError(f"no prepared log at {root}; run `recsys prepare` first")
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["event_types"] = tuple(raw["event_types"])
    raw["user_attributes"] = tuple(raw["user_attributes"])
    raw["user_attribute_values"] = tuple(tuple(values) for values in raw["user_attribute_values"])
    arrays = {name: np.load(root / "arrays" / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return PreparedLog(root=root, info=PreparedInfo(**raw), **arrays)


def write_info(root: Path, info: PreparedInfo) -> None:
    """Write prepared.json."""
    (root / "prepared.json").write_text(
        json.dumps(asdict(info), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
