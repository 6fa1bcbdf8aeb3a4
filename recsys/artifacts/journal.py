"""The journal of the loop: one line of JSON for everything it decided, beside the aliases that it moved.

    <registry>/<name>/loop.jsonl

Lines are only ever appended, and a line is there when `write` returns. A process killed while it writes leaves part of
a line, which readers pass over and the next line does not touch.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

JOURNAL: Final = "loop.jsonl"
Line = dict[str, Any]  # "at" and "did", and what belongs to it


class Journal:
    """What the loop of one model did, oldest first."""

    def __init__(self, home: Path) -> None:
        self.path = home / JOURNAL

    def lines(self) -> list[Line]:
        """Return every whole line."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        found = []
        for raw in text.splitlines():
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict) and "did" in line:
                found.append(line)
        return found

    def last(self, *did: str) -> Line | None:
        """Return the newest line of some kinds, of any kind if none is named."""
        return next((line for line in reversed(self.lines()) if not did or line["did"] in did), None)

    def write(self, did: str, facts: Mapping[str, Any]) -> Line:
        """Append a line."""
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "did": did, **facts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            torn = file.tell() > 0 and not _ends_line(file)
            file.write(
                (b"\n" if torn else b"") + json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n"
            )
            file.flush()
            os.fsync(file.fileno())
        return line


def _ends_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
