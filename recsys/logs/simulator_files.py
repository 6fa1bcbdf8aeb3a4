"""A simulated log in a folder: events/part-*.parquet, items.parquet, users.parquet, and world.json, what made it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_policies import LoggingSettings, logging_policy
from recsys.logs.simulator_stream import items_table, stream_events

_FACTS: Final = "world.json"
_DICTIONARIES: Final = [c.USER_ID, c.SESSION_ID, c.ITEM_ID, c.EVENT_TYPE, c.POLICY_VERSION]

Progress = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True)
class SimulatedLog:
    """What was written."""

    events: int
    impressions: int
    users: int
    items: int


def write_log(
    world: World,
    settings: LoggingSettings,
    users: int,
    seed: int,
    out: Path,
    chunk_users: int = 16_384,
    progress: Progress | None = None,
) -> SimulatedLog:
    """Write a log by the logging policy, one part of the event table per chunk, in bounded memory.

    Raises UserError if the folder is a file or holds what this function did not write.
    """
    chunks = stream_events(world, logging_policy(world, settings), users, seed, chunk_users)
    _ready(out)
    facts = {"world": asdict(world.settings), "world_seed": world.seed, "logging": asdict(settings)}
    facts |= {"users": users, "seed": seed}
    (out / _FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    pq.write_table(items_table(world), out / "items.parquet", compression="zstd")
    events = impressions = known = 0
    writer: pq.ParquetWriter | None = None
    try:
        for part, chunk in enumerate(chunks):
            writer = writer or pq.ParquetWriter(out / "users.parquet", chunk.users.schema, compression="zstd")
            writer.write_table(chunk.users)
            pq.write_table(
                chunk.events,
                out / "events" / f"part-{part:05d}.parquet",
                compression="zstd",
                compression_level=1,
                use_dictionary=_DICTIONARIES,
            )
            events += chunk.events.num_rows
            impressions += pc.count(chunk.events[c.PROPENSITY]).as_py()
            known += chunk.users.num_rows
            if progress:
                progress("simulating users", known, users)
    finally:
        if writer is not None:
            writer.close()
    return SimulatedLog(events, impressions, users, world.settings.items)


def open_world(folder: Path) -> tuple[World, LoggingSettings]:
    """Return the world that a simulated log came from, and how it was logged."""
    path = folder / _FACTS
    if not path.is_file():
        raise UserError(f"no {_FACTS} in {folder}; write a simulated log there with `recsys simulate`")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts["world"].items()
        }
        return make_world(WorldSettings(**settings), facts["world_seed"]), LoggingSettings(**facts["logging"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); write the log again with `recsys simulate`") from error


def _ready(out: Path) -> None:
    """Empty a folder for a simulated log."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, must be a folder; choose another name")
    if out.is_dir() and any(out.iterdir()) and not (out / _FACTS).is_file():
        raise UserError(f"{out} holds files of another origin; choose an empty folder")
    (out / "events").mkdir(parents=True, exist_ok=True)
    for path in (out / "events").glob("part-*.parquet"):
        path.unlink()
