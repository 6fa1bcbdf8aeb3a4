"""A log's events written on many machines with Ray Data: what `recsys/logs/spread.py` does on one.

Three passes: pieces are read and validated; buckets of event ids are settled; buckets of histories are sorted and
written. Rows travel through Ray's object store, which spills to the nodes' disks; what is written, and what is
refused, goes to `out`, which every node must see (a shared file system). Each task writes under a name of its own and
renames, so a task that runs twice, because a node died, leaves one result.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from pipelines.on_ray.cluster import cpus, quiet_data
from recsys import columns as c
from recsys.config import PrepareConfig
from recsys.datasets.adapter import Adapter, Divisible, EventBatch
from recsys.datasets.parsing import flat
from recsys.datasets.registry import open_log
from recsys.logs.coded import EVENT_HASH, ITEM_CODE, TYPE_CODE
from recsys.logs.duplicates import settle
from recsys.logs.hashing import HashArray
from recsys.logs.histories import sort_histories
from recsys.logs.intake import MERGED, Progress, history_hashes, require_events, sound_events
from recsys.logs.quarantine import Quarantine
from recsys.logs.spread import QUARANTINE, Written, require_feedback
from recsys.logs.vocabulary import Vocabulary
from recsys.logs.writer import EventWriter, Histories
from recsys.randomness import derive_seed

BUCKET = "bucket"
NUMBER = "number"
_MOST_BUCKETS = 4_096


@dataclass(frozen=True)
class Job:
    """What every task is told."""

    config: PrepareConfig
    seed: int
    scratch: Path
    known_items: Any  # reference to the ids of the item table, or to none
    event_types: pa.Array
    gap_s: float | None
    merges_lines: bool
    buckets: int

    def place(self, kind: str, number: int) -> Path:
        """Return where a task leaves what does not travel."""
        return self.scratch / kind / f"{number:06d}"


def spread_on_ray(
    config: PrepareConfig,
    seed: int,
    out: Path,
    adapter: Adapter,
    known_items: pa.Array | None,
    event_types: pa.Array,
    progress: Progress | None,
) -> Written:
    """Write the events of a log on the cluster that is connected."""
    quiet_data()
    expected = adapter.expected_rows()
    buckets = min(max(-(-expected * 5 // (4 * config.log.rows_per_bucket)), cpus()), _MOST_BUCKETS)
    pieces = adapter.pieces() if isinstance(adapter, Divisible) else 1
    out = out.resolve()
    with tempfile.TemporaryDirectory(dir=out, prefix=".scratch-") as scratch:
        job = Job(
            config,
            seed,
            Path(scratch),
            ray.put(known_items),
            event_types,
            adapter.session_gap_s,
            adapter.merges_lines,
            buckets,
        )
        with Quarantine(out / QUARANTINE) as refused:
            rows = ray.data.from_items(
                [{NUMBER: number} for number in range(pieces)], override_num_blocks=pieces
            )
            sound = rows.map_batches(
                _read, fn_args=(job,), batch_size=1, batch_format="pyarrow"
            ).materialize()
            facts = _facts(job, "read", pieces, refused)
            refused.check(facts["read"], config.log.max_bad_share)
            require_events(facts["events"], facts["read"], adapter)
            _tell(progress, "deduplicating", facts)
            unique = (
                sound.groupby(BUCKET)
                .map_groups(_settle, fn_args=(job,), batch_format="pyarrow")
                .materialize()
            )
            settled = _facts(job, "settled", buckets, refused)
            refused.check(facts["read"], config.log.max_bad_share)
            require_feedback(settled["events"], settled["impressions"], adapter)
            items = _named_items(job, pieces) if known_items is None else known_items
            _tell(progress, "sorting", settled)
            written = unique.groupby(BUCKET).map_groups(
                _write, fn_args=(job, ray.put(items)), batch_format="pyarrow"
            )
            numbers = sorted(row[NUMBER] for row in written.take_all())
            quarantined = dict(refused.counts)
        histories = _gathered(job, numbers, out, items)
        removed = Counter(facts["removed"])
        removed[MERGED] += settled["merged"]
        return Written(
            histories,
            items,
            facts["read"],
            {rule: count for rule, count in removed.items() if count},
            settled["events"],
            settled["impressions"],
            quarantined,
        )


def _read(rows: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Read and validate one piece; yield its sound events."""
    number = rows[NUMBER][0].as_py()
    known = ray.get(job.known_items)
    items, types = Vocabulary(known), Vocabulary(job.event_types)
    read = events = 0
    removed: Counter[str] = Counter()
    with _once(job.place("read", number)) as folder:
        with Quarantine(folder / QUARANTINE) as refused:
            for batch in _batches(job, number):
                sound, hashes = sound_events(batch, job.gap_s, items, types, refused)
                read, events = read + batch.read, events + sound.num_rows
                removed.update(batch.removed)
                if sound.num_rows:
                    yield _to_bucket(_with_names(sound, items), hashes, job.buckets)
            facts = {"read": read, "events": events, "removed": removed, "refused": refused.counts}
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        if known is None:
            pq.write_table(pa.table({c.ITEM_ID: items.values}), folder / "items.parquet")


def _batches(job: Job, number: int) -> Iterator[EventBatch]:
    adapter = open_log(job.config.log)
    return adapter.piece(number) if isinstance(adapter, Divisible) else adapter.batches()


def _settle(group: pa.Table, job: Job) -> pa.Table:
    """Refuse the duplicates of one bucket of event ids, or merge the lines of one event."""
    number = group[BUCKET][0].as_py()
    items, types = Vocabulary(), Vocabulary(job.event_types)
    coded = _with_codes(group, items.encode(flat(group[c.ITEM_ID])))
    with _once(job.place("settled", number)) as folder:
        with Quarantine(folder / QUARANTINE) as refused:
            coded = coded.append_column("_hash", flat(coded[EVENT_HASH]))
            unique, merged = settle(coded, job.merges_lines, items, types, refused)
            code = job.event_types.index(c.IMPRESSION).as_py()
            impressions = int((flat(unique[TYPE_CODE]).to_numpy() == code).sum()) if code >= 0 else 0
            facts = {"events": unique.num_rows, "impressions": impressions, "merged": merged}
        facts |= {"refused": refused.counts}
        (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return _to_bucket(_with_names(unique, items), history_hashes(unique), job.buckets)


def _write(group: pa.Table, job: Job, items: Any) -> pa.Table:
    """Sort and write one bucket of histories."""
    number = group[BUCKET][0].as_py()
    names = ray.get(items)
    codes = pc.index_in(flat(group[c.ITEM_ID]), value_set=names).to_numpy()
    coded = _with_codes(group, codes).combine_chunks()
    coded = coded.append_column("_hash", pa.array(history_hashes(coded)))
    shown = job.event_types.index(c.IMPRESSION).as_py()
    tie_seed = derive_seed(job.seed, "ties")
    bucket = sort_histories(coded, job.gap_s, tie_seed, None if shown < 0 else shown, job.config.impressions)
    with _once(job.place("written", number)) as folder:
        for name in ("arrays", "events"):
            (folder / name).mkdir()
        with EventWriter(folder, names, job.event_types, job.config.reward) as writer:
            writer.write(bucket)
        writer.histories.save(folder)
    return pa.table({NUMBER: [number]})


def _to_bucket(events: pa.Table, hashes: HashArray, buckets: int) -> pa.Table:
    """Return the events with the bucket of their hash: ranges, so that buckets in order are hashes in order."""
    edges = np.array([(1 << 64) * number // buckets for number in range(1, buckets)], dtype=np.uint64)
    bucket = np.searchsorted(edges, hashes, side="right").astype(np.int32)
    return events.append_column(BUCKET, pa.array(bucket))


def _with_names(events: pa.Table, items: Vocabulary) -> pa.Table:
    """Return events with items by name: codes of one task mean nothing to another."""
    names = items.values.take(flat(events[ITEM_CODE]))
    return events.set_column(events.column_names.index(ITEM_CODE), c.ITEM_ID, names)


def _with_codes(events: pa.Table, codes: np.ndarray) -> pa.Table:
    events = events.drop_columns([BUCKET])
    place = events.column_names.index(c.ITEM_ID)
    return events.set_column(place, ITEM_CODE, pa.array(codes.astype(np.int32)))


@contextmanager
def _once(place: Path) -> Iterator[Path]:
    """Give a fresh folder that takes its place whole when the block ends well; a twin's result is replaced."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f"{place.name}-{uuid.uuid4().hex}")
    fresh.mkdir()
    yield fresh
    try:
        os.rename(fresh, place)
    except OSError:  # the same task has ended before, with the same result
        shutil.rmtree(fresh)


def _facts(job: Job, kind: str, count: int, refused: Quarantine) -> dict[str, Any]:
    """Return the sums of what tasks counted, and take over what they refused."""
    total: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    for number in range(count):
        folder = job.place(kind, number)
        if folder.is_dir():  # a bucket may be empty
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            removed.update(facts.pop("removed", {}))
            refused.take_over(folder / QUARANTINE, facts.pop("refused"))
            total.update(facts)
    return {"read": 0, "events": 0, "impressions": 0, "merged": 0, **total, "removed": removed}


def _named_items(job: Job, pieces: int) -> pa.Array:
    """Return the ids that the log names, by alphabet."""
    tables = [pq.read_table(job.place("read", number) / "items.parquet") for number in range(pieces)]
    names = pc.unique(flat(pa.concat_tables(tables)[c.ITEM_ID]).drop_null())
    return names.take(pc.sort_indices(names))


def _gathered(job: Job, numbers: list[int], out: Path, items: pa.Array) -> Histories:
    """Put the buckets' files behind each other in the prepared log, in the order of the hash."""
    with EventWriter(out, items, job.event_types, job.config.reward) as writer:
        for number in numbers:
            writer.take_over(job.place("written", number))
    return writer.histories


def _tell(progress: Progress | None, phase: str, facts: dict[str, Any]) -> None:
    if progress:
        progress(phase, 0, facts["events"])
