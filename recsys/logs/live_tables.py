"""Tables of the live store: what the endpoint writes and offline readers of its traffic select from.

Defined once, for SQLite and PostgreSQL. Columns of `events` are those of `schema.EVENTS`, with times as integer
microseconds (UTC), and one more: `received_at` (nanoseconds), which orders events that carry the same time. One row of
`impressions` is one answered request, complete enough to be answered again. `users` holds what is known of users,
`item_changes` every change of the catalogue since the bundle was made, `facts` what all replicas must agree on.

The view `logged_events` shows feedback and shown items alike, in the shape of `schema.EVENTS`, with propensities. Where
a client said itself what was shown (events of type impression), its rows stand instead of the server's, with the
propensities that the server computed for those items.
"""

from typing import Final

import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from recsys import columns as c
from recsys.logs.schema import EVENTS, TIMESTAMP_TYPE

LIVE_REVISION: Final = "0002"  # of serving/migrations; each change below is one more of them
LOGGED_EVENTS_VIEW: Final = "logged_events"
RECEIVED_AT: Final = "received_at"
ATTRIBUTES: Final = "attributes"  # JSON {name: value}
NOBODY: Final = ""  # user of a list that was served to an anonymous visitor

METADATA: Final = MetaData()

_TYPE: Final[dict[pa.DataType, TypeEngine[object]]] = {
    pa.string(): Text(),  # type: ignore[dict-item]
    pa.float64(): Double(),
    pa.int32(): Integer(),  # type: ignore[dict-item]
    TIMESTAMP_TYPE: BigInteger(),  # type: ignore[dict-item]
}
_OPTIONAL_HERE: Final = {
    c.SESSION_ID
}  # callers need not know sessions; offline readers cut them by a time gap
_REQUIRED_HERE: Final = {c.USER_ID}  # an anonymous session has nobody to recommend to later


def _event_column(field: pa.Field) -> Column[object]:
    optional = (field.nullable or field.name in _OPTIONAL_HERE) and field.name not in _REQUIRED_HERE
    return Column(field.name, _TYPE[field.type], nullable=optional)


# Clustered by user and time where the engine can, so that the newest events of a user are neighbouring rows.
EVENTS_TABLE: Final = Table(
    "events",
    METADATA,
    *(_event_column(field) for field in EVENTS),
    Column(RECEIVED_AT, BigInteger, nullable=False),
    PrimaryKeyConstraint(c.USER_ID, c.TIMESTAMP, RECEIVED_AT, c.EVENT_ID, name="events_pkey"),
    UniqueConstraint(c.EVENT_ID, name="events_event_id_key"),
    sqlite_with_rowid=False,
)
Index(
    "events_shown",
    EVENTS_TABLE.c[c.RECOMMENDATION_ID],
    postgresql_where=text(f"{c.EVENT_TYPE} = '{c.IMPRESSION}'"),
    sqlite_where=text(f"{c.EVENT_TYPE} = '{c.IMPRESSION}'"),
)
EVENT_COLUMNS: Final = (*EVENTS.names, RECEIVED_AT)

IMPRESSIONS_TABLE: Final = Table(
    "impressions",
    METADATA,
    Column(c.RECOMMENDATION_ID, Text, primary_key=True),
    Column(c.USER_ID, Text, nullable=False),
    Column(c.SESSION_ID, Text),
    Column(c.TIMESTAMP, BigInteger, nullable=False),
    Column("model", Text, nullable=False),  # bundle version
    Column("policy", Text, nullable=False),
    Column("served_by", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("support_events", Integer, nullable=False),
    Column("slate", Text, nullable=False),  # JSON [[item_id, score, propensity], …] by position
    Column("request", LargeBinary, nullable=False),  # JSON, maybe deflated: all else that the list depends on
    Column("scenario", Text),
    Column("variant", Text),
    Column("candidates", Integer),  # how many could have been shown
)
Index("impressions_by_user", IMPRESSIONS_TABLE.c[c.USER_ID], IMPRESSIONS_TABLE.c[c.TIMESTAMP])
IMPRESSION_COLUMNS: Final = tuple(column.name for column in IMPRESSIONS_TABLE.columns)

FACTS_TABLE: Final = Table(
    "facts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

USERS_TABLE: Final = Table(
    "users",
    METADATA,
    Column(c.USER_ID, Text, primary_key=True),
    Column(ATTRIBUTES, Text, nullable=False),
    sqlite_with_rowid=False,
)

ITEM_CHANGES_TABLE: Final = Table(
    "item_changes",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column(c.ITEM_ID, Text, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("fields", Text, nullable=False),  # JSON of the item as it then is
)
Index("item_changes_by_item", ITEM_CHANGES_TABLE.c[c.ITEM_ID], ITEM_CHANGES_TABLE.c.revision)

OF_A_USER: Final = (EVENTS_TABLE, IMPRESSIONS_TABLE, USERS_TABLE)  # every table that knows a user

_EACH_SHOWN: Final = {  # FROM, place in the list, item, propensity
    "sqlite": ("json_each(i.slate) AS shown", "shown.key", "->> '$[0]'", "->> '$[2]'"),
    "postgresql": (
        "jsonb_array_elements(i.slate::jsonb) WITH ORDINALITY AS shown(value, key)",
        "(shown.key - 1)::integer",
        "->> 0",
        "->> 2",
    ),
}


def logged_events_ddl(dialect: str) -> str:
    """Return the statement that makes the view of one engine."""
    each, place, item, propensity = _EACH_SHOWN[dialect]
    number = f"CAST(shown.value {propensity} AS DOUBLE PRECISION)"
    version = "i.model || ' ' || i.policy"
    shown = {
        c.EVENT_ID: f"i.{c.RECOMMENDATION_ID} || ':' || {place}",
        c.USER_ID: f"NULLIF(i.{c.USER_ID}, '{NOBODY}')",
        c.SESSION_ID: f"i.{c.SESSION_ID}",
        c.TIMESTAMP: f"i.{c.TIMESTAMP}",
        c.ITEM_ID: f"shown.value {item}",
        c.EVENT_TYPE: f"'{c.IMPRESSION}'",
        c.VALUE: "CAST(NULL AS DOUBLE PRECISION)",
        c.RECOMMENDATION_ID: f"i.{c.RECOMMENDATION_ID}",
        c.POSITION: place,
        c.PROPENSITY: number,
        c.POLICY_VERSION: version,
    }
    told = {name: f"e.{name}" for name in EVENTS.names}
    told[c.PROPENSITY] = (
        f"COALESCE(e.{c.PROPENSITY}, (SELECT {number} FROM {each} WHERE shown.value {item} = e.{c.ITEM_ID} LIMIT 1))"  # noqa: S608 - constants
    )
    told[c.POLICY_VERSION] = f"COALESCE(e.{c.POLICY_VERSION}, {version})"
    own = f"e.{c.EVENT_TYPE} = '{c.IMPRESSION}' AND e.{c.RECOMMENDATION_ID} = i.{c.RECOMMENDATION_ID}"
    return f"""
CREATE VIEW {LOGGED_EVENTS_VIEW} AS
SELECT {", ".join(EVENTS.names)} FROM events WHERE {c.EVENT_TYPE} <> '{c.IMPRESSION}'
UNION ALL
SELECT {", ".join(f"{told[name]} AS {name}" for name in EVENTS.names)}
FROM events AS e LEFT JOIN impressions AS i ON i.{c.RECOMMENDATION_ID} = e.{c.RECOMMENDATION_ID}
WHERE e.{c.EVENT_TYPE} = '{c.IMPRESSION}'
UNION ALL
SELECT {", ".join(f"{shown[name]} AS {name}" for name in EVENTS.names)}
FROM impressions AS i, {each} WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE {own})
"""  # noqa: S608 - every name is a constant of this module
