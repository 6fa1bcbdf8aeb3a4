"""Who may ask for what: API keys, kept as hashes, with scopes and a rate.

A key is 32 random bytes, so one SHA-256 of it is enough: there is nothing to guess from a dictionary. Every request
compares its hash with every key's in constant time. Keys are never logged; their names are.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from recsys.errors import UserError
from recsys.frozen import Frozen

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_PREFIX = "mq_"
LOOKS_EVERY_S: Final = 1.0  # how often a change of the file is looked for
log = logging.getLogger(__name__)


SAFE: Final = ("GET", "HEAD", "OPTIONS")  # methods that change nothing


def foreign_page(headers: Mapping[str, str], allowed: Sequence[str]) -> str | None:
    """Return the origin of the web page that a browser asks for, unless it is ours or allowed; None is no page.

    Without keys a page of any site could make the visitor's browser change what a server on their machine holds:
    browsers send plain POSTs to other origins without asking first.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed or origin.partition("://")[2] == headers.get("host"):
        return None
    return origin


class ApiKey(Frozen):
    """One key, as the file holds it."""

    name: str
    sha256: str
    scopes: tuple[Scope, ...]


_FILE = TypeAdapter(tuple[ApiKey, ...])


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str
    scopes: frozenset[Scope]


ANYBODY: Final = Caller("", frozenset(SCOPES))  # where keys are off


class Keys:
    """The keys that are let in: those of a file, read again when it changes."""

    def __init__(self, path: Path, every_s: float = LOOKS_EVERY_S) -> None:
        self._path, self._every_s = path, every_s
        self._mark = _mark_of(path)
        self._looked = time.monotonic()
        self._take(read_keys(path))

    def caller(self, secret: bytes) -> Caller | None:
        """Return whose key this is; looks at all of them, however soon one fits."""
        if (now := time.monotonic()) - self._looked >= self._every_s:
            self._looked = now
            self._look()
        asked = hashlib.sha256(secret).digest()
        found: Caller | None = None
        for digest, caller in self._keys:
            if hmac.compare_digest(digest, asked):
                found = caller
        return found

    def _look(self) -> None:
        """Take the file as it is now; where it cannot be read the keys of before stay, and the log says so."""
        mark = _mark_of(self._path)
        if mark == self._mark:
            return
        self._mark = mark
        if mark is None:
            log.error("%s is gone; the keys that were read stay until it is back", self._path)
            return
        try:
            keys = _standing(self._path)
        except (UserError, ValueError) as error:
            log.error("the keys that were read before stay: %s", error)
            return
        self._take(keys)
        log.warning("%d API keys are let in now", len(keys))

    def _take(self, keys: Sequence[ApiKey]) -> None:
        self._keys = [(bytes.fromhex(key.sha256), Caller(key.name, frozenset(key.scopes))) for key in keys]


def _mark_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever a file is written or replaced; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of a file; raises UserError if there are none."""
    keys = _standing(path)
    if not keys:
        raise UserError(
            f"no API keys in {path}; add one with `{sys.executable} -m serving keys add NAME --scopes read,write`, "
            "or set RECSYS_AUTH=off to serve this machine alone"
        )
    return keys


def add_key(path: Path, name: str, scopes: Sequence[Scope]) -> str:
    """Add a key to a file and return it; only its hash is kept. Raises UserError if the name is taken."""
    standing = _standing(path)
    if any(key.name == name for key in standing):
        raise UserError(f"{path} has a key named {name!r}; remove it first, or choose another name")
    secret = _PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    _write(path, (*standing, ApiKey(name=name, sha256=digest, scopes=tuple(scopes))))
    return secret


def remove_key(path: Path, name: str) -> None:
    """Remove a key; raises UserError if there is none of the name."""
    standing = _standing(path)
    if all(key.name != name for key in standing):
        raise UserError(
            f"{path} has no key named {name!r}; it has {', '.join(key.name for key in standing) or 'none'}"
        )
    _write(path, tuple(key for key in standing if key.name != name))


def _standing(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of a file, which may hold none."""
    try:
        told = path.read_bytes()
        return _FILE.validate_json(told) if told else ()
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path} holds no API keys ({str(error).splitlines()[0]}); remove it and add keys anew"
        ) from None


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        json.dump([key.model_dump() for key in keys], out, indent=1)
        out.write("\n")
    beside.replace(path)


class RateLimit:
    """A bucket of tokens for each caller; `rate` come back a second, and at most `burst` are kept."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._buckets: dict[str, tuple[float, float]] = {}  # caller -> tokens, when

    def wait_s(self, caller: str, now: float | None = None) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        if not self.rate:
            return 0.0
        moment = time.monotonic() if now is None else now
        tokens, since = self._buckets.get(caller, (float(self.burst), moment))
        tokens = min(self.burst, tokens + (moment - since) * self.rate)
        if len(self._buckets) > 10_000:  # addresses come and go
            self._buckets.clear()
        if tokens < 1.0:
            self._buckets[caller] = (tokens, moment)
            return (1.0 - tokens) / self.rate
        self._buckets[caller] = (tokens - 1.0, moment)
        return 0.0
