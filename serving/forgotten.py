"""Who was deleted and when, so that what another replica kept meanwhile does not bring them back.

A replica that could not reach the database keeps events in a file of its own. A deletion cannot see that file, so it
leaves a mark in the database: a keyed hash of the user, and the moment. What was received before it is dropped when
the file is carried over; what comes after it is a user who has come back. Marks go after thirty days: no file waits so
long.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from typing import Final

from serving.sql_store import SqlStore

PREFIX: Final = "forgotten:"
KEY_FACT: Final = "forgotten_key"
KEPT_DAYS: Final = 30


async def mark_forgotten(database: SqlStore, user: str) -> None:
    """Leave the mark of a deletion; raises StoreUnavailable."""
    now = time.time_ns() // 1_000
    await database.put_fact(await _name_of(database, user), str(now))
    await database.drop_facts(PREFIX, now - KEPT_DAYS * 86_400_000_000)


async def forgotten_at(database: SqlStore, users: Iterable[str]) -> dict[str, int]:
    """Return when each of the users was deleted last, in microseconds; users who were not are left out."""
    found = {}
    for user in set(users):
        told = await database.fact(await _name_of(database, user))
        if told is not None:
            found[user] = int(told)
    return found


async def _name_of(database: SqlStore, user: str) -> str:
    """Return the name of a user's mark: nobody without the database learns from it who that was."""
    key = await database.fact(KEY_FACT)
    if key is None:
        await database.put_fact(KEY_FACT, secrets.token_hex(32), anew=False)
        key = await database.fact(KEY_FACT) or ""
    return PREFIX + hmac.new(key.encode(), user.encode(), hashlib.sha256).hexdigest()
