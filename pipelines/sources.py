"""Fingerprints of files from outside a run, hashed once and remembered while they stay untouched."""

import json
import time
from pathlib import Path

from pipelines.manifest import FileRecord
from recsys.artifacts.files import files_below, replace_text, sha256_of
from recsys.errors import UserError

# A file changed this recently may change again without its time stamp moving, so its hash is not remembered.
_SETTLED_AFTER_S = 5.0


class SourceHashes:
    """Content hashes of source files, cached by path, size and time of change."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known = _read(cache)

    def describe(self, paths: tuple[Path, ...]) -> dict[str, FileRecord]:
        """Return a record of each file of the given files and folders.

        Names are relative to what was given, so moving a log as a whole changes nothing.
        Raises UserError for a path that does not exist.
        """
        records: dict[str, FileRecord] = {}
        for order, path in enumerate(paths):
            if not path.exists():
                raise UserError(
                    f"nothing at {path}; write the right path into a copy of the config or into the mapping, or give "
                    "it with every command by --set prepare.log.path=PATH"
                )
            names = files_below(path) if path.is_dir() else [Path()]
            for name in names:
                records[f"{order}/{name.as_posix()}"] = self._record(path / name)
        replace_text(self._cache, json.dumps(self._known, indent=1, sort_keys=True))
        return records

    def _record(self, path: Path) -> FileRecord:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        key = str(path.resolve())
        known = self._known.get(key)
        if known is not None and known[:-1] == stamp:
            return FileRecord(status.st_size, str(known[-1]))
        sha256 = sha256_of(path)
        if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_AFTER_S:
            self._known[key] = [*stamp, sha256]
        return FileRecord(status.st_size, sha256)


def _read(cache: Path) -> dict[str, list[object]]:
    try:
        raw = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}
