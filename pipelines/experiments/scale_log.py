"""A log of any size for measurements of cost: tastes, topics and a long tail, streamed in parts.

`recsys simulate` has known truth and costs more per event (`docs/simulator.md`); here only size is asked for.
Item i belongs to topic i mod topics; a user has one taste, and takes seven of ten items from that topic, popular ones
most. Titles are words of the topic and of the item, so that content says what kind of item it is.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c

PART: Final = 1_000_000  # events of a file
SESSION: Final = 8  # events
SKEW: Final = 4.0  # of popularity: rank = size · u^SKEW, u uniform
FAITHFUL: Final = 0.7  # share of events within the user's taste
BEGIN_US: Final = 1_577_836_800_000_000  # 2020-01-01
YEAR_US: Final = 365 * 86_400 * 1_000_000


def write_scale_log(root: Path, events: int, users: int, items: int, topics: int, seed: int) -> None:
    """Write events/part-*.parquet and items.parquet in bounded memory."""
    (root / "events").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for part, first in enumerate(range(0, events, PART)):
        table = _events(generator, first, min(PART, events - first), users, items, topics)
        pq.write_table(
            table,
            root / "events" / f"part-{part:05d}.parquet",
            compression="zstd",
            compression_level=1,
            use_dictionary=[c.EVENT_TYPE],
        )
    pq.write_table(_items(items, topics), root / "items.parquet", compression="zstd")


def _events(
    generator: np.random.Generator, first: int, count: int, users: int, items: int, topics: int
) -> pa.Table:
    sessions = -(-count // SESSION)
    number = np.arange(first, first + count)
    user = generator.integers(users, size=sessions).repeat(SESSION)[:count]
    began = generator.integers(YEAR_US, size=sessions).repeat(SESSION)[:count]
    topic = np.where(
        generator.random(count) < FAITHFUL, user % topics, generator.integers(topics, size=count)
    )
    rank = (max(1, items // topics) * generator.random(count) ** SKEW).astype(np.int64)
    item = np.minimum(rank * topics + topic, items - 1)
    times = BEGIN_US + began + (number % SESSION) * 30_000_000
    return pa.table(
        {
            c.EVENT_ID: pa.array(number).cast(pa.string()),
            c.USER_ID: pa.array(user).cast(pa.string()),
            c.SESSION_ID: pa.array(number // SESSION).cast(pa.string()),
            c.TIMESTAMP: pa.array(times).cast(pa.timestamp("us", tz="UTC")),
            c.ITEM_ID: pa.array(item).cast(pa.string()),
            c.EVENT_TYPE: pa.array(np.where(generator.random(count) < 0.2, "purchase", "click")),
        }
    )


def _items(items: int, topics: int) -> pa.Table:
    number = np.arange(items)
    words = [number % topics, number % (topics * 7), number % 1_009]
    names = [
        pc.binary_join_element_wise(kind, pa.array(word).cast(pa.string()), "")
        for kind, word in zip(("topic", "kind", "word"), words, strict=True)
    ]
    return pa.table(
        {c.ITEM_ID: pa.array(number).cast(pa.string()), c.TITLE: pc.binary_join_element_wise(*names, " ")}
    )
