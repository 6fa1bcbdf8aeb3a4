"""The cut of a continued log: the newest new events are for `evaluate`, and nobody who trained before is cold."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.config import SplitConfig
from recsys.datasets.parsing import flat
from recsys.errors import UserError
from recsys.logs.continuation import ContinuedLog
from recsys.types import LongArray


def continued_split(
    split: SplitConfig, continued: ContinuedLog, test_share: float, validation_share: float
) -> SplitConfig:
    """Return the split of a continued log. A split by users stays: the same users are drawn again.

    A split by time moves its cut so that `test_share` of the new feedback lies behind it (0: the last second alone).
    Validation users are the newest `validation_share` of those first seen between the earlier cut and the new one, so
    that none of them has been trained on. Raises UserError if there is no new feedback.
    """
    if split.kind == "users":
        return split
    seconds, users = _new_feedback(continued)
    earlier = continued.earlier
    if test_share > 0:
        cut = int(np.sort(seconds)[min(int((1.0 - test_share) * len(seconds)), len(seconds) - 1)])
    else:
        cut = max(int(seconds.max()), _seconds(earlier.info.last_event))
    identified = np.asarray(earlier.history_user) >= 0
    began = np.asarray(earlier.timestamp[earlier.history_offsets[:-1]])[identified]
    known = flat(continued.users()[c.USER_ID]).take(pa.array(np.asarray(earlier.history_user)[identified]))
    first = (
        pa.table({"user": users, "second": pa.array(seconds)}).group_by("user").aggregate([("second", "min")])
    )
    fresh = first.filter(pc.invert(pc.is_in(flat(first["user"]), value_set=known)))["second_min"].to_numpy()
    every = np.concatenate([began, fresh])
    since = 0 if earlier.info.test_from is None else _seconds(earlier.info.test_from)
    unseen = int(((every >= since) & (every < cut)).sum())
    early = max(int((every < cut).sum()), 1)
    return split.model_copy(
        update={
            "test_from": datetime.fromtimestamp(cut, UTC),
            "validation_share": validation_share * unseen / early,
        }
    )


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _new_feedback(continued: ContinuedLog) -> tuple[LongArray, pa.Array]:
    """Return (second, user) of new feedback, both (event,)."""
    parts = [each.columns([c.TIMESTAMP, c.USER_ID, c.EVENT_TYPE]) for each in continued.new]
    table = pa.concat_tables(parts, promote_options="permissive")
    table = table.filter(pc.not_equal(table[c.EVENT_TYPE], c.IMPRESSION))
    table = table.filter(pc.is_valid(table[c.TIMESTAMP]))
    if not table.num_rows:
        raise UserError(
            f"no new feedback in {', '.join(each.source for each in continued.new)}; there is nothing to learn from yet"
        )
    times = flat(table[c.TIMESTAMP]).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return (times // 1_000_000).astype(np.int64), flat(table[c.USER_ID]).cast(pa.string())
