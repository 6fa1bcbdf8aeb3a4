"""From a raw log to a prepared one: the whole of it on one page.

Everything but the histories' ends, the items and the users is streamed; the layout is that of prepared.py.
The same log, configuration and seed give the same bytes, whatever the order of the log's rows.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.config import PrepareConfig
from recsys.datasets.parsing import flat, utc_text
from recsys.datasets.registry import open_log
from recsys.logs.attributes import attribute_codes, user_attributes
from recsys.logs.catalogue import item_table, named_items, user_table
from recsys.logs.continuation import FITTED_ITEMS, ContinuedLog
from recsys.logs.hashing import hash_strings
from recsys.logs.intake import Progress
from recsys.logs.item_content import item_content
from recsys.logs.output import prepared_folder
from recsys.logs.prepared import PreparedInfo, write_info
from recsys.logs.split import Split, cut_time, split_by_time, split_by_user
from recsys.logs.spread import QUARANTINE, Spread, spread_here
from recsys.logs.writer import Histories
from recsys.mdp.reward import rewarded_types
from recsys.randomness import derive_seed
from recsys.types import LongArray


def prepare(
    config: PrepareConfig,
    seed: int,
    out: Path,
    progress: Progress | None = None,
    continued: ContinuedLog | None = None,
    spread: Spread = spread_here,
) -> PreparedInfo:
    """Write a prepared log to a folder and return its facts; `seed` counts where `config.seed` is none.

    A `continued` log is read instead of the configured one, and everything that was known keeps its place. Raises
    UserError if the folder is not free, or the log cannot be read, holds no usable feedback, or too much
    of it is refused (`quarantine.csv` tells which rows). What the folder held before is gone from the start.
    """
    seed = seed if config.seed is None else config.seed
    adapter = open_log(config.log) if continued is None else continued
    prepared_folder(out, config.log.path if continued is None else continued.earlier.root)
    (out / QUARANTINE).touch()  # says from the first moment on that the folder is ours
    event_types = pa.array(rewarded_types(config.reward), pa.string())
    impression = event_types.index(c.IMPRESSION).as_py()
    items = item_table(adapter.items(), adapter.source) if continued is None else continued.items()
    known = None if items is None else flat(items[c.ITEM_ID])
    written = spread(config, seed, out, adapter, known, event_types, progress)
    histories, feedback = written.histories, written.events - written.impressions
    if items is None:
        items = named_items(written.items)
    users, history_user = _users(adapter.users(), histories, adapter.source)
    lengths = np.concatenate(histories.lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    split = _split(config, seed, out, histories, history_user, users, feedback, impression)
    train_end = split.train_end(_before(out, offsets, split.test_from, config.log.rows_per_bucket))
    if continued is None:
        attributes, values, codes = user_attributes(users)
    else:
        attributes = continued.earlier.info.user_attributes
        values = continued.earlier.info.user_attribute_values
        codes = attribute_codes(users, attributes, values)
    if progress:
        progress("item content", 0, items.num_rows)
    arrays: dict[str, npt.NDArray[Any]] = {
        "content": item_content(items, config, seed)
        if continued is None
        else continued.content(items, config, seed),
        "user_attributes": codes,
        "history_offsets": offsets,
        "history_user": history_user,
        "history_role": split.role,
        "history_train_end": train_end,
    }
    for name, array in arrays.items():
        np.save(out / "arrays" / f"{name}.npy", array)
    pq.write_table(items, out / "items.parquet", compression="zstd")
    pq.write_table(users, out / "users.parquet", compression="zstd")
    if continued is not None:
        shutil.copy(continued.fitted_items, out / FITTED_ITEMS)
    info = PreparedInfo(
        source=adapter.source,
        event_types=tuple(event_types.to_pylist()),
        user_attributes=attributes,
        user_attribute_values=values,
        reward_base=dict(config.reward.base),
        reward_per_log_value=dict(config.reward.per_log_value),
        events=written.events,
        impressions=written.impressions,
        impressions_are=config.impressions,
        items=items.num_rows,
        users=users.num_rows,
        histories=len(lengths),
        sessions=histories.sessions,
        quarantined=dict(sorted(written.quarantined.items())),
        first_event=utc_text(_first(histories)),
        last_event=utc_text(histories.ended),
        test_from=None if split.test_from is None else utc_text(split.test_from),
        validation_from=None if split.validation_from is None else utc_text(split.validation_from),
        session_gap_s=adapter.session_gap_s,
        rows_read=written.read,
        removed_by_rule=dict(sorted(written.removed.items())),
    )
    write_info(out, info)  # last: a folder without it is no prepared log
    if progress:
        progress("done", info.events, info.events)
    return info


def _users(table: pa.Table | None, histories: Histories, source: str) -> tuple[pa.Table, np.ndarray]:
    """Return the user table and the user index of each history, −1 for an anonymous session."""
    of_history = pa.concat_arrays(histories.users)
    known = np.asarray(of_history.is_valid())
    index = np.where(known, np.cumsum(known) - 1, -1).astype(np.int32)
    seen = pa.concat_arrays([of_history.drop_null(), *histories.only_shown])
    return user_table(table, seen, source), index


def _split(
    config: PrepareConfig,
    seed: int,
    out: Path,
    histories: Histories,
    history_user: np.ndarray,
    users: pa.Table,
    feedback: int,
    impression: int,
) -> Split:
    """Return the split that feedback alone decides: whoever gave none is nobody's cold user."""
    anonymous = history_user < 0
    never_cold = anonymous | ~np.concatenate(histories.responded)
    if config.split.kind == "users":
        of_history = flat(users[c.USER_ID]).take(pa.array(history_user, mask=anonymous))
        return split_by_user(config.split, hash_strings(of_history), never_cold, derive_seed(seed, "split"))
    rows = config.log.rows_per_bucket

    def times() -> Iterator[LongArray]:
        types = _chunks(out, "event_type", np.int8, rows)
        for seconds, kind in zip(_chunks(out, "timestamp", np.int64, rows), types, strict=True):
            yield seconds[kind != impression]

    cut = cut_time(config.split, times, feedback, _first(histories), histories.ended)
    return split_by_time(config.split, cut, np.concatenate(histories.began), never_cold)


def _first(histories: Histories) -> int:
    """Return the second of the first feedback."""
    return int(np.concatenate(histories.began)[np.concatenate(histories.responded)].min())


def _chunks(out: Path, name: str, dtype: npt.DTypeLike, rows: int) -> Iterator[npt.NDArray[Any]]:
    with (out / "arrays" / f"{name}.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while len(chunk := np.fromfile(file, dtype=dtype, count=rows)):
            yield chunk


def _before(out: Path, offsets: LongArray, cut: int | None, rows: int) -> LongArray:
    """Return how many events of each history lie before the cut; all of them where there is none."""
    if cut is None:
        return np.diff(offsets)
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    begin = 0
    for chunk in _chunks(out, "timestamp", np.int64, rows):
        history = np.searchsorted(offsets, np.arange(begin, begin + len(chunk)), side="right") - 1
        counts += np.bincount(history, weights=chunk < cut, minlength=len(counts)).astype(np.int64)
        begin += len(chunk)
    return counts
