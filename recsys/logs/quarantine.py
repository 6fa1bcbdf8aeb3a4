"""quarantine.csv: every refused row with its number, the reason and the row itself; and the counts.

Of a duplicate it also holds the number of the row that stands for it.
"""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pyarrow as pa

from recsys.errors import UserError

_REMEDIES: Final = {
    "unknown event type": "give that type a reward under [prepare.reward.base]",
    "unknown item": "add the items to the item table or leave the table out",
    "duplicate event id": "give each event its own id",
}
_MANY: Final = 100_000  # rows
_MOSTLY: Final = 0.5


class Quarantine:
    """Collects refused rows in a file as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(["row_number", "reason", "row", "kept_row"])

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def total(self) -> int:
        """Rows refused so far."""
        return self.counts.total()

    def refuse(self, row: int, reason: str, text: str, kept_row: int | None = None) -> None:
        """Set one row aside; `kept_row` is the row that stands for a duplicate."""
        self.counts[reason] += 1
        self._writer.writerow([row, reason, text, kept_row])

    def refuse_rows(
        self,
        rows: Sequence[int],
        reasons: Sequence[str],
        table: pa.Table,
        kept_rows: Sequence[int] | None = None,
    ) -> None:
        """Set aside rows, given as a table aligned with their numbers and reasons."""
        kept: Sequence[int | None] = kept_rows or [None] * len(rows)
        for row, reason, cells, kept_row in zip(rows, reasons, table.to_pylist(), kept, strict=True):
            self.refuse(row, reason, json.dumps(cells, default=_plain, ensure_ascii=False), kept_row)

    def take_over(self, path: Path, counts: Mapping[str, int]) -> None:
        """Set aside the rows of another quarantine's closed file, whose counts are given."""
        self.counts.update(counts)
        if counts:
            with path.open(encoding="utf-8", newline="") as file:
                file.readline()  # the header
                shutil.copyfileobj(file, self._file)

    def check(self, read: int, max_bad_share: float) -> None:
        """Raise UserError if more than the tolerated share of the rows read was refused."""
        if read and self.total > max_bad_share * read:
            raise self._error(read, max_bad_share)

    def check_early(self, read: int, max_bad_share: float) -> None:
        """Raise UserError if the rows read so far are many and mostly refused: the rest will be no better."""
        if self.total > _MANY and self.total > max(max_bad_share, _MOSTLY) * read:
            raise self._error(read, max_bad_share)

    def _error(self, read: int, max_bad_share: float) -> UserError:
        reason, rows = max(self.counts.items(), key=lambda pair: pair[1])
        remedy = _REMEDIES.get(reason, "mend the log")
        return UserError(
            f"{self.total:,} of {read:,} rows ({self.total / read:.1%}) were refused, above max_bad_share "
            f"{max_bad_share:g}; most often: {reason} ({rows:,}); see {self.path}, then {remedy} "
            "or raise max_bad_share"
        )


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
