"""Identifiers: how those of callers are written, and our own, which sort by time, so that indexes grow at one end."""

import os
import time
from typing import Final

# Without control characters every id can also be written in a path, so every user can be deleted.
ID: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def new_id() -> str:
    """Return 32 hexadecimal digits: milliseconds since 1970, then chance."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def first_id(at_s: float) -> str:
    """Return what sorts before every id made from a moment on, seconds since 1970."""
    return f"{max(0, round(at_s * 1e3)):012x}"
