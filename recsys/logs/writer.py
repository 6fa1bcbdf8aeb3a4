"""The events of a prepared log written bucket by bucket: all in Parquet parts, histories in arrays as well."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.datasets.parsing import flat
from recsys.logs.arrays import ArrayWriter
from recsys.logs.coded import ITEM_CODE, TYPE_CODE, as_events
from recsys.logs.histories import HistoryBucket
from recsys.mdp.reward import rewards
from recsys.types import BoolArray, ByteArray, IntArray, LongArray

_PER_SECOND = 1_000_000
_GROUP_ROWS = 131_072


@dataclass
class Histories:
    """What is kept in memory of the histories written so far, and of those who have none."""

    lengths: list[LongArray] = field(default_factory=list)
    began: list[LongArray] = field(
        default_factory=list
    )  # second of the first feedback; without any, of the history
    responded: list[BoolArray] = field(default_factory=list)  # histories with feedback
    ended: int = -(2**62)  # second of the last feedback
    users: list[pa.Array] = field(default_factory=list)
    only_shown: list[pa.Array] = field(default_factory=list)  # users with impressions and no history
    sessions: int = 0

    def save(self, folder: Path) -> None:
        """Write to a folder what is here."""
        ended_and_sessions = np.array([self.ended, self.sessions], np.int64)
        np.savez(
            folder / "histories.npz",
            lengths=np.concatenate(self.lengths),
            began=np.concatenate(self.began),
            responded=np.concatenate(self.responded),
            facts=ended_and_sessions,
        )
        for name in ("users", "only_shown"):
            ids = pa.concat_arrays(getattr(self, name))
            pq.write_table(pa.table({c.USER_ID: ids}), folder / f"{name}.parquet")

    def load(self, folder: Path) -> None:
        """Add what another saved, behind what is here."""
        with np.load(folder / "histories.npz") as saved:
            self.lengths.append(saved["lengths"])
            self.began.append(saved["began"])
            self.responded.append(saved["responded"])
            ended, sessions = (int(number) for number in saved["facts"])
        self.ended, self.sessions = max(self.ended, ended), self.sessions + sessions
        self.users.append(flat(pq.read_table(folder / "users.parquet")[c.USER_ID]))
        self.only_shown.append(flat(pq.read_table(folder / "only_shown.parquet")[c.USER_ID]))


class EventWriter:
    """Writes buckets of histories in the order in which they come."""

    def __init__(self, root: Path, items: pa.Array, event_types: pa.Array, reward: RewardConfig) -> None:
        self.histories = Histories()
        self._root = root
        self._items = items
        self._event_types = event_types
        self._reward = reward
        self._parts = 0
        self._open = ExitStack()
        kinds = {
            "item": np.int32,
            "event_type": np.int8,
            "reward": np.float32,
            "timestamp": np.int64,
            "session": np.int32,
        }
        self._arrays = {
            name: self._open.enter_context(ArrayWriter(root / "arrays" / f"{name}.npy", kind))
            for name, kind in kinds.items()
        }

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def take_over(self, root: Path) -> None:
        """Put behind what was written what another writer wrote to its root; its event table is moved."""
        for name, array in self._arrays.items():
            array.append_file(root / "arrays" / f"{name}.npy")
        for part in sorted((root / "events").glob("part-*.parquet")):
            part.rename(self._part())
        self.histories.load(root)

    def _part(self) -> Path:
        self._parts += 1
        return self._root / "events" / f"part-{self._parts - 1:05d}.parquet"

    def write(self, bucket: HistoryBucket) -> None:
        """Write whole histories."""
        events = bucket.events
        kept = bucket.tokens
        item: IntArray = events[ITEM_CODE].to_numpy()[kept]
        code: ByteArray = events[TYPE_CODE].to_numpy()[kept]
        value = flat(events[c.VALUE]).to_numpy(zero_copy_only=False)[kept]
        seconds = bucket.times[kept] // _PER_SECOND
        self._arrays["item"].append(item)
        self._arrays["event_type"].append(code)
        self._arrays["reward"].append(rewards(self._reward, self._event_types.to_pylist(), code, value))
        self._arrays["timestamp"].append(seconds)
        self._arrays["session"].append(bucket.session)
        pq.write_table(
            as_events(events, self._items, self._event_types),
            self._part(),
            compression="zstd",
            row_group_size=_GROUP_ROWS,
            use_dictionary=[c.USER_ID, c.SESSION_ID, c.ITEM_ID, c.EVENT_TYPE, c.POLICY_VERSION],
        )
        lengths = np.add.reduceat(kept.astype(np.int64), bucket.starts)
        gave = lengths > 0
        ends = np.cumsum(lengths)[gave]
        first = ends - lengths[gave]
        responds = bucket.feedback[kept]
        place = np.where(responds, np.arange(len(responds)), len(responds))
        earliest = np.minimum.reduceat(place, first) if len(first) else first
        responded = earliest < len(responds)
        self.histories.lengths.append(lengths[gave])
        self.histories.began.append(seconds[np.where(responded, earliest, first)])
        self.histories.responded.append(responded)
        self.histories.ended = max(
            self.histories.ended, int(seconds[responds].max(initial=self.histories.ended))
        )
        self.histories.users.append(bucket.users.filter(pa.array(gave)))
        self.histories.only_shown.append(bucket.users.filter(pa.array(~gave)).drop_null())
        self.histories.sessions += int((bucket.session[ends - 1] + 1).sum())
