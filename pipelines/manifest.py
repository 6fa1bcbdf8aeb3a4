"""step.json: what an artifact was made from, and whether it is all there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.steps import Summary
from recsys.artifacts.files import content_digest, files_below, sha256_of

MANIFEST = "step.json"  # the only file of an artifact that may hold a duration


@dataclass(frozen=True)
class FileRecord:
    """One file of an artifact."""

    size: int
    sha256: str


@dataclass(frozen=True)
class InputRecord:
    """The artifact of another step as it was when it was read."""

    fingerprint: str
    digest: str


@dataclass(frozen=True)
class Manifest:
    """The record of one finished step."""

    step: str
    fingerprint: str
    settings: dict[str, object]
    seed: int
    inputs: dict[str, InputRecord]
    sources: dict[str, FileRecord]
    made_with: dict[str, str]  # package -> version
    files: dict[str, FileRecord]
    digest: str
    summary: Summary
    seconds: float

    def write(self, folder: Path) -> None:
        """Write the record into the artifact's folder."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, default=str)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def is_whole(self, folder: Path) -> bool:
        """Say whether every file is there with its size; contents are not read."""
        for name, record in self.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != record.size:
                return False
        return True


def read_manifest(folder: Path) -> Manifest | None:
    """Return the record of a finished step; None if there is none, or none that can be read."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        raw["inputs"] = {name: InputRecord(**record) for name, record in raw["inputs"].items()}
        for part in ("files", "sources"):
            raw[part] = {name: FileRecord(**record) for name, record in raw[part].items()}
        return Manifest(**raw)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def describe_files(folder: Path) -> dict[str, FileRecord]:
    """Return a record of every file of an artifact but step.json."""
    return {
        path.as_posix(): FileRecord((folder / path).stat().st_size, sha256_of(folder / path))
        for path in files_below(folder)
        if path.as_posix() != MANIFEST
    }


def digest_of(files: dict[str, FileRecord]) -> str:
    """Return one digest of an artifact's names and contents."""
    return content_digest({name: record.sha256 for name, record in files.items()})


def artifact_digest(folder: Path) -> str:
    """Return the digest of an artifact as it lies on disk; step.json does not count."""
    return digest_of(describe_files(folder))
