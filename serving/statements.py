"""The store's statements: written once with SQLAlchemy Core, compiled once for an engine, run by its driver.

Compiling and wrapping rows costs ten times what SQLite needs for the read itself, so hot paths hand the compiled text
and a plain tuple to the driver.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Dialect,
    Executable,
    Integer,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.elements import ColumnElement

from recsys import columns as c
from recsys.logs.live_tables import (
    ATTRIBUTES,
    EVENT_COLUMNS,
    EVENTS_TABLE,
    FACTS_TABLE,
    IMPRESSION_COLUMNS,
    IMPRESSIONS_TABLE,
    ITEM_CHANGES_TABLE,
    RECEIVED_AT,
    USERS_TABLE,
)

LOGGED = (c.ITEM_ID, c.EVENT_TYPE, c.VALUE, c.TIMESTAMP, c.SESSION_ID, c.RECOMMENDATION_ID)


@dataclass(frozen=True)
class Statement:
    """Compiled text; values are handed over in the order that was asked for."""

    sql: str


@dataclass(frozen=True)
class Statements:
    """Everything the store asks of an engine."""

    insert_events: Statement  # rows of EVENT_COLUMNS; as columns where the engine takes arrays
    insert_impressions: Statement  # rows of IMPRESSION_COLUMNS, alike
    newest: Statement  # user, limit -> LOGGED, newest first, without what was merely shown
    shown: Statement  # user, limit -> LOGGED of what imports and clients say was shown
    slates: Statement  # user, limit -> recommendation_id, timestamp, session_id, slate
    events: Statement  # user, limit -> EVENT_COLUMNS without the last
    impression: Statement  # recommendation_id -> IMPRESSION_COLUMNS
    attributes: Statement  # user -> JSON
    put_user: Statement  # user, JSON
    move_events: Statement  # to, from
    move_impressions: Statement  # to, from
    forget: tuple[Statement, ...]  # user; events, impressions, users
    count: tuple[Statement, ...]  # user -> rows; events, impressions, users
    revision: Statement  # -> newest revision or NULL
    insert_change: Statement  # revision, item_id, changed_at, fields
    changes_since: Statement  # revision, limit -> revision, item_id, fields
    fact: Statement  # name -> value
    put_fact: Statement  # name, value
    keep_fact: Statement  # name, value; what is there already stays
    drop_facts: Statement  # like, before -> facts whose value, a number, is smaller
    exported_events: Statement  # received_at after, limit -> EVENT_COLUMNS
    exported_impressions: Statement  # recommendation_id after, limit -> IMPRESSION_COLUMNS
    recent_impressions: Statement  # recommendation_id after, limit -> IMPRESSION_COLUMNS, newest first
    exported_users: Statement  # user_id after, limit -> user_id, attributes
    overridden: Statement  # first and last recommendation_id -> recommendation_ids that clients spoke of
    drop_event: Statement  # event_id
    drop_impression: Statement  # recommendation_id
    columnar: bool


def compile_statements(engine: str) -> Statements:
    """Return the statements of "sqlite" or "postgresql"."""
    dialect: Dialect = (
        sqlite.dialect() if engine == "sqlite" else PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
    )
    insert = sqlite.insert if engine == "sqlite" else postgresql.insert
    columnar = engine == "postgresql"
    events, lines, users, changes, facts = (
        EVENTS_TABLE.c,
        IMPRESSIONS_TABLE.c,
        USERS_TABLE.c,
        ITEM_CHANGES_TABLE.c,
        FACTS_TABLE.c,
    )

    def ready(statement: Executable, *order: str) -> Statement:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        assert tuple(compiled.positiontup or ()) == order, (str(compiled), compiled.positiontup)  # noqa: S101
        return Statement(str(compiled))

    def rows_into(table: Any, names: tuple[str, ...], unique: str) -> Statement:
        statement = insert(table)
        if columnar:  # one array per column: one statement for a batch of any size
            values = [
                func.unnest(bindparam(name, type_=postgresql.ARRAY(table.c[name].type))) for name in names
            ]
            return ready(
                statement.from_select(list(names), select(*values)).on_conflict_do_nothing(
                    index_elements=[unique]
                ),
                *names,
            )
        named = statement.values({name: bindparam(name) for name in names})
        return ready(named.on_conflict_do_nothing(index_elements=[unique]), *names)

    user = bindparam("user", type_=Text)
    limit, zero = bindparam("limit", type_=Integer), literal_column("0", Integer)
    is_shown: ColumnElement[bool] = events[c.EVENT_TYPE] == literal_column(f"'{c.IMPRESSION}'", Text)
    newest_first = (events[c.TIMESTAMP].desc(), events[RECEIVED_AT].desc(), events[c.EVENT_ID].desc())
    logged = select(*(events[name] for name in LOGGED)).order_by(*newest_first).limit(limit).offset(zero)
    put_user = insert(USERS_TABLE).values({c.USER_ID: user, ATTRIBUTES: bindparam("attributes")})
    put_fact = insert(FACTS_TABLE).values(name=bindparam("fact"), value=bindparam("value"))
    of_a_user = (EVENTS_TABLE, IMPRESSIONS_TABLE, USERS_TABLE)
    return Statements(
        insert_events=rows_into(EVENTS_TABLE, EVENT_COLUMNS, c.EVENT_ID),
        insert_impressions=rows_into(IMPRESSIONS_TABLE, IMPRESSION_COLUMNS, c.RECOMMENDATION_ID),
        newest=ready(logged.where(and_(events[c.USER_ID] == user, ~is_shown)), "user", "limit"),
        shown=ready(logged.where(and_(events[c.USER_ID] == user, is_shown)), "user", "limit"),
        slates=ready(
            select(lines[c.RECOMMENDATION_ID], lines[c.TIMESTAMP], lines[c.SESSION_ID], lines.slate)
            .where(lines[c.USER_ID] == user)
            .order_by(lines[c.TIMESTAMP].desc(), lines[c.RECOMMENDATION_ID].desc())
            .limit(limit)
            .offset(zero),
            "user",
            "limit",
        ),
        events=ready(
            select(*(events[name] for name in EVENT_COLUMNS[:-1]))
            .where(events[c.USER_ID] == user)
            .order_by(*newest_first)
            .limit(limit)
            .offset(zero),
            "user",
            "limit",
        ),
        impression=ready(
            select(*(lines[name] for name in IMPRESSION_COLUMNS)).where(
                lines[c.RECOMMENDATION_ID] == bindparam("recommendation")
            ),
            "recommendation",
        ),
        attributes=ready(select(users[ATTRIBUTES]).where(users[c.USER_ID] == user), "user"),
        put_user=ready(
            put_user.on_conflict_do_update(
                index_elements=[c.USER_ID], set_={ATTRIBUTES: put_user.excluded[ATTRIBUTES]}
            ),
            "user",
            "attributes",
        ),
        move_events=ready(
            update(EVENTS_TABLE)
            .values({c.USER_ID: bindparam("target")})
            .where(events[c.USER_ID] == bindparam("source")),
            "target",
            "source",
        ),
        move_impressions=ready(
            update(IMPRESSIONS_TABLE)
            .values({c.USER_ID: bindparam("target")})
            .where(lines[c.USER_ID] == bindparam("source")),
            "target",
            "source",
        ),
        forget=tuple(ready(delete(table).where(table.c[c.USER_ID] == user), "user") for table in of_a_user),
        count=tuple(
            ready(select(func.count()).select_from(table).where(table.c[c.USER_ID] == user), "user")
            for table in of_a_user
        ),
        revision=ready(select(func.max(changes.revision))),
        insert_change=ready(
            insert(ITEM_CHANGES_TABLE).values(
                {column.name: bindparam(f"new_{column.name}") for column in changes}
            ),
            *(f"new_{column.name}" for column in changes),
        ),
        changes_since=ready(
            select(changes.revision, changes[c.ITEM_ID], changes.fields)
            .where(changes.revision > bindparam("after"))
            .order_by(changes.revision)
            .limit(limit)
            .offset(zero),
            "after",
            "limit",
        ),
        fact=ready(select(facts.value).where(facts.name == bindparam("fact")), "fact"),
        put_fact=ready(
            put_fact.on_conflict_do_update(
                index_elements=["name"], set_={"value": put_fact.excluded["value"]}
            ),
            "fact",
            "value",
        ),
        keep_fact=ready(put_fact.on_conflict_do_nothing(index_elements=["name"]), "fact", "value"),
        drop_facts=ready(
            delete(FACTS_TABLE).where(
                and_(facts.name.like(bindparam("like")), cast(facts.value, BigInteger) < bindparam("before"))
            ),
            "like",
            "before",
        ),
        exported_events=ready(
            select(*(events[name] for name in EVENT_COLUMNS))
            .where(events[c.EVENT_ID] > bindparam("after"))
            .order_by(events[c.EVENT_ID])
            .limit(limit)
            .offset(zero),
            "after",
            "limit",
        ),
        exported_impressions=ready(
            select(*(lines[name] for name in IMPRESSION_COLUMNS))
            .where(lines[c.RECOMMENDATION_ID] > bindparam("after"))
            .order_by(lines[c.RECOMMENDATION_ID])
            .limit(limit)
            .offset(zero),
            "after",
            "limit",
        ),
        recent_impressions=ready(
            select(*(lines[name] for name in IMPRESSION_COLUMNS))
            .where(lines[c.RECOMMENDATION_ID] > bindparam("after"))
            .order_by(lines[c.RECOMMENDATION_ID].desc())
            .limit(limit)
            .offset(zero),
            "after",
            "limit",
        ),
        exported_users=ready(
            select(users[c.USER_ID], users[ATTRIBUTES])
            .where(users[c.USER_ID] > bindparam("after"))
            .order_by(users[c.USER_ID])
            .limit(limit)
            .offset(zero),
            "after",
            "limit",
        ),
        overridden=ready(
            select(events[c.RECOMMENDATION_ID])
            .where(and_(is_shown, events[c.RECOMMENDATION_ID].between(bindparam("first"), bindparam("last"))))
            .distinct(),
            "first",
            "last",
        ),
        drop_event=ready(delete(EVENTS_TABLE).where(events[c.EVENT_ID] == bindparam("id")), "id"),
        drop_impression=ready(
            delete(IMPRESSIONS_TABLE).where(lines[c.RECOMMENDATION_ID] == bindparam("id")), "id"
        ),
        columnar=columnar,
    )
