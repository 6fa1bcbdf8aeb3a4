"""The folder of one run: its lock, and artifacts that appear whole or not at all."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recsys.artifacts.files import locked, sync_folder, sync_tree
from recsys.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAGING = ".tmp-"  # + step: being written
_RETIRED = ".old-"  # + step: being replaced
_UNFINISHED = ".unfinished-"  # + step: what a rerun with the same fingerprint goes on from


class RunFolder:
    """`<output>/<name>`: one folder per step, beside config.json and tensorboard/."""

    def __init__(self, output: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UserError(f"the run's name is {name!r}; use up to 100 letters, digits, '.', '_' and '-'")
        self.root = output / name

    def step(self, name: str) -> Path:
        """Return the folder of a step's artifact."""
        return self.root / name

    def unfinished(self, name: str, fingerprint: str) -> Path:
        """Return where a step leaves what its rerun can go on from; what another fingerprint left is removed."""
        folder = self.root / f"{_UNFINISHED}{name}"
        if folder.exists() and not (folder / fingerprint).exists():
            shutil.rmtree(folder)
        return folder / fingerprint

    def forget_unfinished(self, name: str) -> None:
        """Remove what a step left for a rerun."""
        shutil.rmtree(self.root / f"{_UNFINISHED}{name}", ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out, and clear away what an earlier one left.

        Raises UserError if another process holds the folder.
        """
        lock = self.root / ".lock"
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, wait=False))
            except BlockingIOError:
                holder = lock.read_text(encoding="utf-8") or "unknown"
                raise UserError(
                    f"another process (id {holder}) works in {self.root}; wait for it or --set name=…"
                ) from None
            self._recover()
            yield

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """Give a fresh folder that takes the step's place if the block ends well, else vanishes."""
        fresh = self.root / f"{_STAGING}{name}"
        fresh.mkdir()
        try:
            yield fresh
            sync_tree(fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self._replace(name, fresh)

    def _replace(self, name: str, fresh: Path) -> None:
        # A folder cannot be renamed over a full one; death between the renames is undone by _recover.
        final, old = self.step(name), self.root / f"{_RETIRED}{name}"
        if final.exists():
            os.rename(final, old)
        os.rename(fresh, final)
        sync_folder(self.root)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        for old in self.root.glob(f"{_RETIRED}*"):
            final = self.step(old.name.removeprefix(_RETIRED))
            if final.exists():
                shutil.rmtree(old)
            else:
                os.rename(old, final)
        for leftover in self.root.glob(f"{_STAGING}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
