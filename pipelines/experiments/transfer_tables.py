"""The pairs of logs that transfer is shown on, as small canonical tables: a sample of users, items that were taken.

shop       Online Retail (bundled) -> The Complete Journey
movies     MovieLens-1M -> MovieLens-100K, titles in common
disjoint   the same, without the films of the target in the source
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.transferring import names_to_match
from recsys import columns as c
from recsys.config import LogConfig, LogFormat
from recsys.logs.export import export_tables

STARS = ("prepare.reward.base={rating = -1.6}", "prepare.reward.per_log_value={rating = 1.45}")
# how The Complete Journey is read best, chosen on its validation users (configs/complete-journey.toml)
DOUBT = (
    "memory.doubt=1",
    "memory.scalar_rate=10",
    "metatrain.initial_scale=0.02",
    "metatrain.map_rate=0",
)
PAIRS: dict[
    str, tuple[LogFormat, LogFormat, Sequence[str], str]
] = {  # formats, settings of both, how items are matched
    "shop": ("tables", "complete-journey", DOUBT, "nothing"),
    "movies": ("movielens", "movielens", STARS, "titles"),
    "disjoint": ("movielens", "movielens", STARS, "titles"),
}


def write_pair(pair: str, source: Path, target: Path, work: Path, users: int, seed: int) -> tuple[Path, Path]:
    """Write (source tables, target tables) once a seed, which draws their users; return their folders."""
    of_source, of_target, _, _ = PAIRS[pair]
    there = _sampled(
        LogConfig(format=of_target, path=target), work / f"{pair}-target-{seed}", users, seed, None
    )
    apart = pq.read_table(there / "items.parquet") if pair == "disjoint" else None
    here = _sampled(
        LogConfig(format=of_source, path=source), work / f"{pair}-source-{seed}", users, seed, apart
    )
    return here, there


def _sampled(log: LogConfig, out: Path, users: int, seed: int, without: pa.Table | None) -> Path:
    if (out / "users.parquet").is_file():
        return out
    whole = out.with_name(f"{out.name.rpartition('-')[0]}-whole")  # of all seeds
    if not (whole / "users.parquet").is_file():
        export_tables(log, whole)
    parts = whole / "events"
    events = pq.read_table(parts if parts.is_dir() else whole / "events.parquet")
    items = pq.read_table(whole / "items.parquet")
    if without is not None:
        theirs = set(names_to_match(without, "titles"))
        apart = pa.array([name not in theirs for name in names_to_match(items, "titles")])
        events = events.filter(pc.is_in(events[c.ITEM_ID], value_set=items.filter(apart)[c.ITEM_ID]))
    often = Counter(events[c.USER_ID].to_pylist())
    often.pop(None, None)
    everybody = sorted(often)
    drawn = np.random.default_rng(seed).permutation(len(everybody))[:users]
    kept = events.filter(pc.is_in(events[c.USER_ID], value_set=pa.array([everybody[row] for row in drawn])))
    people = pq.read_table(whole / "users.parquet")
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(kept, out / "events.parquet")
    pq.write_table(_named(items, kept, c.ITEM_ID), out / "items.parquet")
    pq.write_table(_named(people, kept, c.USER_ID), out / "users.parquet")
    return out


def _named(table: pa.Table, events: pa.Table, key: str) -> pa.Table:
    return table.filter(pc.is_in(table[key], value_set=pc.unique(events[key])))
