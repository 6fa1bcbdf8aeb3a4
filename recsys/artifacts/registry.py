"""The registry: immutable versions of a model, and aliases that move between them.

    <root>/<name>/versions/v0001-3fa9c1d2/…      files, read-only, and checksums.json
    <root>/<name>/aliases/champion.json          where the alias points, and where it pointed before

A version is numbered in order of publishing and named after its content, so that the same content published
twice is one version. Everything is written beside its place and renamed into it under a lock: readers need no
lock and never see a part. Plain files only; nothing here is ever unpickled.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypedDict

from recsys.artifacts.files import (
    content_digest,
    files_below,
    locked,
    replace_text,
    sha256_of,
    sync_folder,
    sync_tree,
)
from recsys.errors import UserError

CHECKSUMS: Final = "checksums.json"
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # no slash and no leading dot: it stays inside its folder
VERSIONS: Final = "versions"  # folder of a model that holds its versions
_GIVEN_BY_US = re.compile(r"v(\d{4,})-([0-9a-f]{8})")
_STAGING = ".tmp-"


class _Move(TypedDict):
    version: str
    at: str  # ISO 8601, UTC


class Registry:
    """Versions and aliases below one folder; safe for many processes on one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, source: Path, name: str, version: str | None = None) -> str:
        """Copy a folder into the registry and return its version; content already there keeps the one it has.

        Raises UserError if the folder is empty or holds links, or if the version exists with other content.
        """
        home = self._home(name)
        if version is not None:
            _check("version", version)
        with self._exclusive(home):
            staging = home / f"{_STAGING}{os.getpid()}"
            _copy(source, staging)
            checksums = _checksums(staging)
            digest = content_digest(checksums)
            chosen = self._place(name, version, digest)
            final = self._version_folder(name, chosen)
            if not final.exists():
                record = json.dumps({"digest": digest, "files": checksums}, indent=1, sort_keys=True)
                (staging / CHECKSUMS).write_text(record + "\n", encoding="utf-8")
                for path in files_below(staging):
                    (staging / path).chmod(0o444)
                sync_tree(staging)
                final.parent.mkdir(exist_ok=True)
                staging.rename(final)
                sync_folder(final.parent)
            else:
                shutil.rmtree(staging)
        return chosen

    def resolve(self, name: str, alias_or_version: str) -> Path:
        """Return the folder of a version or of an alias's version; raises UserError if there is none."""
        _check("alias or version", alias_or_version)
        history = self._history(self._alias_file(name, alias_or_version))
        version = history[-1]["version"] if history else alias_or_version
        folder = self._version_folder(name, version)
        if not folder.is_dir():
            known = ", ".join([*self.aliases(name), *self.versions(name)]) or self._other_names(name)
            raise UserError(f"no {alias_or_version!r} of {name} in {self.root}; there is: {known}")
        return folder

    def names(self) -> list[str]:
        """Return the models that have versions."""
        return sorted(path.parent.name for path in self.root.glob(f"[a-z0-9]*/{VERSIONS}"))

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first."""
        folder = self._home(name) / VERSIONS
        return sorted((path.name for path in folder.iterdir()), key=_order) if folder.is_dir() else []

    def aliases(self, name: str) -> dict[str, str]:
        """Return where each alias points; damaged ones are left out."""
        return {alias: moves[-1]["version"] for alias, moves in self._moves(name).items() if moves}

    def damaged_aliases(self, name: str) -> list[str]:
        """Return the aliases whose files cannot be read."""
        return [alias for alias, moves in self._moves(name).items() if not moves]

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version whose files are intact; a damaged alias begins anew.

        Raises UserError if the version is unknown or damaged, or if the alias could be taken for a version.
        """
        _check("alias", alias)
        _check("version", version)
        if _GIVEN_BY_US.fullmatch(alias) or alias in self.versions(name):
            raise UserError(f"alias {alias!r} is a version of {name}; choose a word such as champion")
        if version not in self.versions(name):
            self.resolve(name, version)  # says what there is
            raise UserError(
                f"{version!r} is an alias of {name}; name a version: {', '.join(self.versions(name))}"
            )
        self.verify(self._version_folder(name, version))
        home = self._home(name)
        with self._exclusive(home):
            path = self._alias_file(name, alias)
            history = self._moves(name).get(alias, [])
            if not history or history[-1]["version"] != version:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self._write_history(path, [*history, {"version": version, "at": now}])

    def rollback(self, name: str, alias: str) -> str:
        """Point an alias back to where it pointed before and return that version.

        Raises UserError if it has never pointed elsewhere or if that version is damaged.
        """
        _check("alias", alias)
        home = self._home(name)
        with self._exclusive(home):
            path = self._alias_file(name, alias)
            history = self._history(path)
            if len(history) < 2:
                now = history[-1]["version"] if history else "nothing"
                raise UserError(f"{alias} of {name} points to {now} and has never pointed elsewhere")
            version = history[-2]["version"]
            self.verify(self._version_folder(name, version))
            self._write_history(path, history[:-1])
        return version

    def verify(self, path: Path) -> None:
        """Compare a version's files with their checksums; raises UserError naming the first that differs."""
        try:
            expected = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path} has no readable {CHECKSUMS}; publish the bundle again") from None
        found = _checksums(path)
        for name in sorted({*expected, *found}):
            if expected.get(name) != found.get(name):
                what = (
                    "is missing"
                    if name not in found
                    else "was added"
                    if name not in expected
                    else "is damaged"
                )
                raise UserError(f"{path / name} {what}; publish the bundle again or roll back")

    def _other_names(self, name: str) -> str:
        others = ", ".join(other for other in self.names() if other != name)
        if not others:
            return "nothing is published yet"
        return f"nothing of this name yet; `recsys run` publishes it, or give --name {others}"

    def _home(self, name: str) -> Path:
        _check("name", name)
        return self.root / name

    def _version_folder(self, name: str, version: str) -> Path:
        return self._home(name) / VERSIONS / version

    @contextmanager
    def _exclusive(self, home: Path) -> Iterator[None]:
        with locked(home / ".lock"):
            for leftover in [*home.glob(f"{_STAGING}*"), *home.glob(f"aliases/{_STAGING}*")]:
                # whoever left it is gone: it would hold the lock
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            yield

    def _place(self, name: str, version: str | None, digest: str) -> str:
        """Return the version that some content has or gets."""
        versions = self.versions(name)
        if version is not None:
            if version in versions and self._digest(name, version) != digest:
                raise UserError(
                    f"{name} {version} exists with other content and never changes; name another version"
                )
            if self._alias_file(name, version).exists():
                raise UserError(f"{version!r} is an alias of {name}; name another version")
            return version
        for known in versions:
            if self._digest(name, known) == digest:
                return known
        numbers = [int(match[1]) for known in versions if (match := _GIVEN_BY_US.fullmatch(known))]
        return f"v{max(numbers, default=0) + 1:04d}-{digest[:8]}"

    def _digest(self, name: str, version: str) -> str | None:
        try:
            text = (self._version_folder(name, version) / CHECKSUMS).read_text(encoding="utf-8")
            return str(json.loads(text)["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # damaged: it is nobody's twin

    def _alias_file(self, name: str, alias: str) -> Path:
        return self._home(name) / "aliases" / f"{alias}.json"

    def _moves(self, name: str) -> dict[str, list[_Move]]:
        """Return the moves of each alias, none where its file is damaged."""
        moves: dict[str, list[_Move]] = {}
        for path in sorted((self._home(name) / "aliases").glob("[a-z0-9]*.json")):
            try:
                moves[path.stem] = self._history(path)
            except UserError:
                moves[path.stem] = []
        return moves

    def _history(self, path: Path) -> list[_Move]:
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            moves = [_Move(version=str(move["version"]), at=str(move["at"])) for move in raw]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError):
            moves = []
        if not moves:
            raise UserError(f"{path} is damaged; `recsys promote` sets the alias again")
        for move in moves:
            _check("version", move["version"])
        return moves

    def _write_history(self, path: Path, moves: list[_Move]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(moves, indent=1) + "\n")


def _check(what: str, word: str) -> None:
    if not _WORD.fullmatch(word):
        raise UserError(
            f"{what} {word!r} is refused; use up to 64 of a-z, 0-9, '.', '_', '-', beginning with a-z or 0-9"
        )


def _copy(source: Path, staging: Path) -> None:
    if not source.is_dir():
        raise UserError(f"no folder at {source}; nothing to publish")
    if not files_below(source):
        raise UserError(f"{source} is empty; nothing to publish")
    for path in source.rglob("*"):
        if path.is_symlink():
            raise UserError(f"{path} is a link; a version holds plain files only")
    shutil.copytree(source, staging)
    (staging / CHECKSUMS).unlink(missing_ok=True)  # of a version that is published anew


def _checksums(folder: Path) -> dict[str, str]:
    return {
        path.as_posix(): sha256_of(folder / path)
        for path in files_below(folder)
        if path.as_posix() != CHECKSUMS
    }


def _order(version: str) -> tuple[int, str]:
    match = _GIVEN_BY_US.fullmatch(version)
    return (int(match[1]), version) if match else (-1, version)
