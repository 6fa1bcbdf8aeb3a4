"""What `prepare` leaves to whoever has the machines: from a log's rows to written histories.

The rule is fixed (validate, settle duplicates, sort each history, write in the order of the history's hash); where it
is carried out is not. `spread_here` streams through files on one machine; `pipelines/on_ray` does it on many.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from recsys.config import PrepareConfig
from recsys.datasets.adapter import Adapter
from recsys.errors import UserError
from recsys.logs.coded import ITEM_CODE
from recsys.logs.histories import sort_histories
from recsys.logs.intake import Intake, Progress, take_in
from recsys.logs.quarantine import Quarantine
from recsys.logs.vocabulary import Vocabulary
from recsys.logs.writer import EventWriter, Histories
from recsys.randomness import derive_seed

QUARANTINE = "quarantine.csv"


@dataclass(frozen=True)
class Written:
    """What was written of a log's events, and what was found on the way."""

    histories: Histories
    items: pa.Array  # ids of a log without an item table, by alphabet
    read: int  # source rows
    removed: dict[str, int]  # cleaning rule -> rows
    events: int  # impressions among them
    impressions: int
    quarantined: dict[str, int]  # reason -> rows


class Spread(Protocol):
    """Writes the events of a log: event table and arrays of a prepared log, and its quarantine."""

    def __call__(
        self,
        config: PrepareConfig,
        seed: int,
        out: Path,
        adapter: Adapter,
        known_items: pa.Array | None,  # ids of the item table, in the order that is kept
        event_types: pa.Array,
        progress: Progress | None,
    ) -> Written:
        """Write; raises UserError if the log is empty, mostly bad, or has impressions only."""
        ...


def spread_here(
    config: PrepareConfig,
    seed: int,
    out: Path,
    adapter: Adapter,
    known_items: pa.Array | None,
    event_types: pa.Array,
    progress: Progress | None,
) -> Written:
    """Stream the events through files; memory holds one batch or one bucket, never the log."""
    with (
        tempfile.TemporaryDirectory(dir=out, prefix=".scratch-") as scratch,
        Quarantine(out / QUARANTINE) as refused,
    ):
        vocabulary, types = Vocabulary(known_items), Vocabulary(event_types)
        intake = take_in(adapter, config.log, vocabulary, types, Path(scratch), refused, progress)
        require_feedback(intake.events.rows, intake.impressions, adapter)
        events = intake.events.rows
        histories = _write_events(config, seed, out, intake, adapter.session_gap_s, known_items, progress)
        return Written(
            histories,
            vocabulary.values,
            intake.read,
            intake.removed,
            events,
            intake.impressions,
            dict(refused.counts),
        )


def require_feedback(events: int, impressions: int, adapter: Adapter) -> None:
    """Raise UserError if all that happened was that things were shown."""
    if events == impressions:
        raise UserError(
            f"{adapter.source} holds impressions only ({impressions:,}); add what users did, clicks or "
            "purchases, because a history is made of that"
        )


def _write_events(
    config: PrepareConfig,
    seed: int,
    out: Path,
    intake: Intake,
    gap_s: float | None,
    known_items: pa.Array | None,
    progress: Progress | None,
) -> Histories:
    items = intake.items
    ranks = items.sorted_order() if known_items is None else np.arange(len(items.values), dtype=np.int32)
    tie_seed = derive_seed(seed, "ties")
    events = intake.events.rows
    with EventWriter(out, intake.items.values, intake.event_types.values, config.reward) as writer:
        for table, left in intake.events.tables():
            item = pa.array(ranks[table[ITEM_CODE].to_numpy()])
            table = table.set_column(table.column_names.index(ITEM_CODE), ITEM_CODE, item)
            writer.write(sort_histories(table, gap_s, tie_seed, intake.impression, config.impressions))
            if progress:
                progress("sorting", events - left, events)
    return writer.histories
