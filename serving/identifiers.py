"""Identifiers that sort by time, so that the store's indexes grow at one end."""

import os
import time


def new_id() -> str:
    """Return 32 hexadecimal digits: milliseconds since 1970, then chance."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def first_id(at_s: float) -> str:
    """Return what sorts before every id made from a moment on, seconds since 1970."""
    return f"{max(0, round(at_s * 1e3)):012x}"
