"""How fast, and in how much memory, `prepare` reads a large log.

Run it as a script: `python tests/benchmarks/bench_prepare.py --events 10000000`. It writes a synthetic log
(streamed), prepares it in a fresh process, prints time, events/s and that process's peak memory, and fails
above the bound.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_BOUND_BYTES = 2 * 1024**3
_AT_ONCE = 500_000
_BEGIN_US = 1_577_836_800_000_000  # 2020-01-01
_YEAR_US = 365 * 86_400 * 1_000_000

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from recsys.config import LogConfig, PrepareConfig
from recsys.logs.prepare import prepare
begin = time.perf_counter()
info = prepare(PrepareConfig(log=LogConfig(path=Path(sys.argv[1]))), 7, Path(sys.argv[2]))
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"events": info.events, "users": info.users, "items": info.items, "seconds": seconds, "peak":
peak}))
"""


def write_log(root: Path, events: int, users: int, items: int, seed: int) -> None:
    """Write a log in canonical tables: Zipf popularity, five events a session, times over one year."""
    generator = np.random.default_rng(seed)
    popularity = 1.0 / np.arange(1, items + 1)
    cumulated = np.cumsum(popularity) / popularity.sum()
    root.mkdir(parents=True, exist_ok=True)
    writer = None
    for begin in range(0, events, _AT_ONCE):
        count = min(_AT_ONCE, events - begin)
        number = np.arange(begin, begin + count)
        user = generator.integers(users, size=-(-count // 5)).repeat(5)[:count]
        session = number // 5
        start = generator.integers(_YEAR_US, size=-(-count // 5)).repeat(5)[:count]
        item = np.searchsorted(cumulated, generator.random(count))
        table = pa.table(
            {
                "event_id": pa.array(number).cast(pa.string()),
                "user_id": pa.array(user).cast(pa.string()),
                "session_id": pa.array(session).cast(pa.string()),
                "timestamp": pa.array(_BEGIN_US + start + (number % 5) * 30_000_000).cast(
                    pa.timestamp("us", tz="UTC")
                ),
                "item_id": pa.array(item).cast(pa.string()),
                "event_type": pa.array(np.where(generator.random(count) < 0.1, "purchase", "click")),
                "value": pa.array(generator.random(count) * 100, mask=generator.random(count) < 0.5),
            }
        )
        writer = writer or pq.ParquetWriter(root / "events.parquet", table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    names = pa.array(np.arange(items)).cast(pa.string())
    pq.write_table(pa.table({"item_id": names}), root / "items.parquet")


def run(events: int, users: int, items: int, folder: Path) -> dict[str, float]:
    """Write the log and prepare it in a process of its own."""
    begin = time.perf_counter()
    write_log(folder / "log", events, users, items, seed=7)
    print(f"wrote {events:,} events in {time.perf_counter() - begin:.1f} s", flush=True)
    child = [sys.executable, "-c", _CHILD, str(folder / "log"), str(folder / "prepared")]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Print the figures; exit with 1 above the memory bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-prepare-") as folder:
        result = run(options.events, options.users, options.items, Path(folder))
    rate = result["events"] / result["seconds"]
    print(
        f"prepared {result['events']:,} events, {result['users']:,} users, {result['items']:,} items in "
        f"{result['seconds']:.1f} s: {rate:,.0f} events/s, peak {result['peak'] / 1024**3:.2f} GiB"
    )
    if result["peak"] > _BOUND_BYTES:
        sys.exit(f"peak memory is above {_BOUND_BYTES / 1024**3:g} GiB")


if __name__ == "__main__":
    main()
