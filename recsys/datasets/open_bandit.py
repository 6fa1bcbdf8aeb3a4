"""Open Bandit Dataset (ZOZO): what a known policy showed in a fashion shop, and what was clicked.

One row is one impression with its propensity; a clicked one is a click event besides, a microsecond later, so
that it follows its impression. Visitors are not named: each row is an anonymous session of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets import sources
from recsys.datasets.adapter import EventBatch
from recsys.datasets.canonical import BAD_POSITION, BAD_PROPENSITY, BAD_TIME, BAD_VALUE, canonical, constant
from recsys.datasets.parsing import as_number, as_position, as_text, as_time
from recsys.errors import UserError
from recsys.types import BoolArray

_COLUMNS: Final = ("timestamp", "item_id", "position", "click", "propensity_score")
_CONTEXT: Final = "item_context.csv"
_POLICIES: Final = ("random", "bts")
_REMEDY: Final = "give one campaign's folder as it was published, for example …/random/men"


class OpenBanditAdapter:
    """Reads one campaign of one policy."""

    merges_lines = False
    session_gap_s = None

    def __init__(self, root: Path, batch_rows: int) -> None:
        self._root = root
        self._batch_rows = batch_rows
        if not root.is_dir():
            raise UserError(f"no folder at {root}; {_REMEDY}")
        found = sorted(path for path in root.iterdir() if path.name.lower().endswith((".csv", ".csv.gz")))
        logs = [path for path in found if path.name != _CONTEXT]
        if len(logs) != 1 or not (root / _CONTEXT).is_file():
            names = ", ".join(path.name for path in found) or "no CSV"
            raise UserError(f"{root} holds {names}, must hold {_CONTEXT} and one log; {_REMEDY}")
        self._log = logs[0]
        columns = sources.column_names(self._log)
        sources.require_columns(columns, _COLUMNS, self._log, _REMEDY)
        if columns[0] in _COLUMNS:
            raise UserError(f"{self._log} begins with {columns[0]}, must begin with a row number; {_REMEDY}")
        self._row_number = columns[0]
        policy = root.parent.name
        self._policy = policy if policy in _POLICIES else None
        campaign = self._log.name.split(".")[0]
        self._prefix = f"{self._policy}-{campaign}" if self._policy else campaign
        self.source = f"Open Bandit {self._prefix}, {root}"

    def expected_rows(self) -> int:
        """Return a guess of the number of rows."""
        return sources.expected_rows(self._log)

    def batches(self) -> Iterator[EventBatch]:
        """Stream impressions, each followed by its click if there was one."""
        for batch in sources.stream(self._log, self._batch_rows):
            yield self._events(batch)

    def items(self) -> pa.Table:
        """Return the campaign's items with their hashed features, named as in the file."""
        path = self._root / _CONTEXT
        table = sources.read_all(path)
        sources.require_columns(table.column_names, ["item_id"], path, _REMEDY)
        columns: dict[str, pa.Array] = {c.ITEM_ID: as_text(table["item_id"])}
        for name in table.column_names[1:]:
            if name != "item_id":
                numbers, bad = as_number(table[name])
                columns[name] = as_text(table[name]) if bad.any() else numbers
        return pa.table(columns)

    def users(self) -> None:
        """Return nothing: visitors are not named."""
        return

    def _events(self, batch: sources.SourceBatch) -> EventBatch:
        shown = batch.table
        clicks, bad_click = as_number(shown["click"])
        value = clicks.to_numpy(zero_copy_only=False)
        bad_click = bad_click | ~((value == 0) | (value == 1))
        clicked = np.flatnonzero(value == 1)
        # each impression, then (at the end) the clicks among them
        place = np.concatenate([np.arange(shown.num_rows), clicked])
        is_click = np.arange(len(place)) >= shown.num_rows
        raw = shown.take(pa.array(place))
        time, bad_time = as_time(raw["timestamp"])
        position, bad_position = as_position(raw["position"])
        propensity, bad_propensity = as_number(raw["propensity_score"])
        row = pc.binary_join_element_wise(self._prefix, as_text(raw[self._row_number]), "-")
        kind = pa.array(np.where(is_click, c.CLICK, c.IMPRESSION))
        later = pc.add(time.cast(pa.int64()), pa.array(is_click.astype(np.int64))).cast(time.type)
        nothing = pa.scalar(None, pa.float64())
        events = canonical(
            {
                c.EVENT_ID: pc.binary_join_element_wise(row, kind, "-"),
                c.SESSION_ID: row,
                c.TIMESTAMP: later,
                c.ITEM_ID: as_text(raw["item_id"]),
                c.EVENT_TYPE: kind,
                c.RECOMMENDATION_ID: row,
                c.POSITION: pc.subtract(position, pa.scalar(1, pa.int32())),  # the source counts from 1
                c.PROPENSITY: pc.if_else(pa.array(is_click), nothing, propensity),
                c.POLICY_VERSION: constant(self._policy, len(place))
                if self._policy
                else pa.nulls(len(place), pa.string()),
            },
            len(place),
        )
        missing: BoolArray = np.asarray(pc.is_null(propensity)) & ~bad_propensity
        refused = {
            BAD_TIME: bad_time,
            BAD_POSITION: bad_position,
            BAD_PROPENSITY: bad_propensity,
            "missing propensity": missing,
            BAD_VALUE: bad_click[place],
        }
        return EventBatch(events, batch.rows[place], raw, batch.read, refused, malformed=batch.malformed)
