"""Tables of the live store: what the endpoint writes and offline readers of its traffic select from.

Columns of `events` are those of `schema.EVENTS`, with times as integer microseconds (UTC), and one more:
`received_at` (nanoseconds), which orders events that carry the same time. One row of `impressions` is one
answered request, complete enough to be answered again. `users` holds what a log knew of its users when its history
was imported. The view `logged_events` shows both in the shape of
`schema.EVENTS`.
"""

from typing import Final

import pyarrow as pa

from recsys import columns as c
from recsys.logs.schema import EVENTS, TIMESTAMP_TYPE

LIVE_VERSION: Final = 2  # PRAGMA user_version; raise it with every change below, which may only add

EVENTS_TABLE: Final = "events"
IMPRESSIONS_TABLE: Final = "impressions"
FACTS_TABLE: Final = "facts"
USERS_TABLE: Final = "users"
ATTRIBUTES: Final = "attributes"  # JSON {name: value}
LOGGED_EVENTS_VIEW: Final = "logged_events"
RECEIVED_AT: Final = "received_at"

EVENT_COLUMNS: Final = (*EVENTS.names, RECEIVED_AT)

IMPRESSION_COLUMNS: Final = (
    c.RECOMMENDATION_ID,
    c.USER_ID,
    c.SESSION_ID,
    c.TIMESTAMP,
    "model",  # bundle version
    "policy",
    "served_by",
    "seed",
    "support_events",
    "slate",  # JSON [[item_id, score, propensity], …] by position
    "request",  # deflated JSON: n, rung, exclude_seen, exclude, attributes, events read, candidates
)

_SQL_TYPE: Final = {
    pa.string(): "TEXT",
    pa.float64(): "REAL",
    pa.int32(): "INTEGER",
    TIMESTAMP_TYPE: "INTEGER",
}
_OPTIONAL_HERE: Final = {
    c.SESSION_ID
}  # callers need not know sessions; offline readers cut them by a time gap
_REQUIRED_HERE: Final = {c.USER_ID}  # an anonymous session has nobody to recommend to later


def _event_column(field: pa.Field) -> str:
    optional = (field.nullable or field.name in _OPTIONAL_HERE) and field.name not in _REQUIRED_HERE
    return f"{field.name} {_SQL_TYPE[field.type]}{'' if optional else ' NOT NULL'}"


# Clustered by user and time, so that the newest events of a user are one range of neighbouring rows.
_EVENTS_DDL: Final = f"""
CREATE TABLE IF NOT EXISTS {EVENTS_TABLE} (
  {", ".join(_event_column(field) for field in EVENTS)},
  {RECEIVED_AT} INTEGER NOT NULL,
  PRIMARY KEY ({c.USER_ID}, {c.TIMESTAMP}, {RECEIVED_AT}, {c.EVENT_ID}),
  UNIQUE ({c.EVENT_ID})
) WITHOUT ROWID
"""

_IMPRESSIONS_DDL: Final = f"""
CREATE TABLE IF NOT EXISTS {IMPRESSIONS_TABLE} (
  {c.RECOMMENDATION_ID} TEXT NOT NULL PRIMARY KEY,
  {c.USER_ID} TEXT NOT NULL,
  {c.SESSION_ID} TEXT,
  {c.TIMESTAMP} INTEGER NOT NULL,
  model TEXT NOT NULL,
  policy TEXT NOT NULL,
  served_by TEXT NOT NULL,
  seed INTEGER NOT NULL,
  support_events INTEGER NOT NULL,
  slate TEXT NOT NULL,
  request BLOB NOT NULL
)
"""

_IMPRESSIONS_INDEX_DDL: Final = f"""
CREATE INDEX IF NOT EXISTS {IMPRESSIONS_TABLE}_by_user ON {IMPRESSIONS_TABLE} ({c.USER_ID}, {c.TIMESTAMP})
"""

_FACTS_DDL: Final = (
    f"CREATE TABLE IF NOT EXISTS {FACTS_TABLE} (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)"
)

_USERS_DDL: Final = f"""
CREATE TABLE IF NOT EXISTS {USERS_TABLE} (
  {c.USER_ID} TEXT NOT NULL PRIMARY KEY,
  {ATTRIBUTES} TEXT NOT NULL
) WITHOUT ROWID
"""

_SHOWN: Final = {
    c.EVENT_ID: f"i.{c.RECOMMENDATION_ID} || ':' || shown.key",
    c.USER_ID: f"i.{c.USER_ID}",
    c.SESSION_ID: f"i.{c.SESSION_ID}",
    c.TIMESTAMP: f"i.{c.TIMESTAMP}",
    c.ITEM_ID: "json_extract(shown.value, '$[0]')",
    c.EVENT_TYPE: f"'{c.IMPRESSION}'",
    c.VALUE: "NULL",
    c.RECOMMENDATION_ID: f"i.{c.RECOMMENDATION_ID}",
    c.POSITION: "shown.key",
    c.PROPENSITY: "json_extract(shown.value, '$[2]')",
    c.POLICY_VERSION: "i.model || ' ' || i.policy",
}

_LOGGED_EVENTS_DDL: Final = f"""
CREATE VIEW IF NOT EXISTS {LOGGED_EVENTS_VIEW} AS
SELECT {", ".join(EVENTS.names)} FROM {EVENTS_TABLE}
UNION ALL
SELECT {", ".join(f"{_SHOWN[name]} AS {name}" for name in EVENTS.names)}
FROM {IMPRESSIONS_TABLE} AS i, json_each(i.slate) AS shown
"""  # noqa: S608 - every name is a constant of this module

LIVE_DDL: Final = (
    _EVENTS_DDL,
    _IMPRESSIONS_DDL,
    _IMPRESSIONS_INDEX_DDL,
    _FACTS_DDL,
    _USERS_DDL,
    _LOGGED_EVENTS_DDL,
)
