"""The endpoint's own store as tables and frames, read through a connection that the caller has opened.

Tables are pyarrow's, so that pandas (`.to_pandas()`), DuckDB (by the name of the variable) and Parquet read them alike.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.evaluation.replay.attribution import attribute
from recsys.evaluation.replay.live_log import Connection
from recsys.evaluation.replay.log import RECEIVED_AT, REQUEST, from_table
from recsys.logs.live_tables import ATTRIBUTES, IMPRESSIONS_TABLE, LOGGED_EVENTS_VIEW, USERS_TABLE
from recsys.logs.schema import EVENTS, TIMESTAMP_TYPE

_LISTS: Final = (
    c.RECOMMENDATION_ID, c.USER_ID, c.SESSION_ID, c.TIMESTAMP, "model", "policy", "served_by", "support_events",
    "scenario", "variant", "candidates",
)  # fmt: skip
_WHOLE: Final = ("support_events", "candidates")


@dataclass(frozen=True)
class StoreTables:
    """What the endpoint kept."""

    events: pa.Table  # feedback and shown items in the columns of schema.EVENTS, oldest first
    lists: pa.Table  # one row per answered request, oldest first: who asked, what answered, in which variant
    attributes: Mapping[str, Mapping[str, str]]  # of users, as the endpoint was told


def read_store(connection: Connection) -> StoreTables:
    """Return the event table, the answered requests and what is known of users of a live store, on either engine."""
    loose = pa.schema([field.with_nullable(True) for field in EVENTS])
    kinds = pa.schema(
        [
            pa.field(
                name, TIMESTAMP_TYPE if name == c.TIMESTAMP else pa.int64() if name in _WHOLE else pa.string()
            )
            for name in _LISTS
        ]
    )
    events = _table(connection, LOGGED_EVENTS_VIEW, loose)
    lists = _table(connection, IMPRESSIONS_TABLE.name, kinds)
    told = connection.execute(f"SELECT {c.USER_ID}, {ATTRIBUTES} FROM {USERS_TABLE.name}").fetchall()  # noqa: S608
    return StoreTables(
        events.sort_by([(c.TIMESTAMP, "ascending"), (c.EVENT_ID, "ascending")]),
        lists.sort_by([(c.TIMESTAMP, "ascending"), (c.RECOMMENDATION_ID, "ascending")]),
        {
            user: {name: str(value) for name, value in json.loads(text).items() if value is not None}
            for user, text in told
        },
    )


def shown_items(
    tables: StoreTables, reward: RewardConfig | None = None, window_s: float = 86_400.0
) -> pd.DataFrame:
    """Return one row per shown item with what came of it, and what the request's row says of its list.

    user_id, timestamp, item_id, recommendation_id, position, propensity, policy_version; reward and `responded`: whose
    merit a response is follows replay's rule (recsys/evaluation/replay/attribution.py), within the window; model,
    policy, served_by, support_events, scenario, variant.
    """
    parts = []
    for frame in from_table(tables.events, "the store"):
        codes = pd.factorize(frame[c.ITEM_ID].to_numpy(object))[0]
        got = attribute(frame, codes, reward or RewardConfig(), window_s)
        shown = (frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()
        base = (reward or RewardConfig()).base.get(c.IMPRESSION, 0.0)
        parts.append(
            frame.assign(reward=got.reward, responded=got.reward != base)[shown].drop(
                columns=[c.EVENT_TYPE, c.VALUE, c.SESSION_ID, RECEIVED_AT, REQUEST, "time", "who"]
            )
        )
    if not parts:
        return pd.DataFrame(columns=[c.USER_ID, c.RECOMMENDATION_ID, "reward", "responded"])
    lists = tables.lists.to_pandas().drop(columns=[c.USER_ID, c.SESSION_ID, c.TIMESTAMP])
    return pd.concat(parts, ignore_index=True).merge(lists, on=c.RECOMMENDATION_ID, how="left")


def _table(connection: Connection, source: str, schema: pa.Schema) -> pa.Table:
    rows = connection.execute(f"SELECT {', '.join(schema.names)} FROM {source}").fetchall()  # noqa: S608 - constants
    columns: list[Any] = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [
        pa.array(np.array(values, np.int64)).cast(field.type)
        if field.name == c.TIMESTAMP
        else pa.array(list(values), field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
