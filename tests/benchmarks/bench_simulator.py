"""How fast, and in how much memory, a large simulated log is written.

Run it as a script: `python tests/benchmarks/bench_simulator.py --events 10000000`. It fails above the bounds.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from recsys.logs.simulator import WorldSettings, make_world
from recsys.logs.simulator_files import write_log
from recsys.logs.simulator_policies import LoggingSettings

_EVENTS_PER_USER = 44  # about that of the default world
_BOUND_S = 180.0  # of CPU time, for 10 M events
_BOUND_BYTES = 1.5 * 1024**3


def main() -> None:
    """Print the figures; exit with 1 above a bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=1000)
    options = parser.parse_args()
    world = make_world(WorldSettings(items=options.items), 7)
    users = -(-options.events // _EVENTS_PER_USER)
    with tempfile.TemporaryDirectory(prefix="bench-simulator-") as folder:
        begin, cpu = time.perf_counter(), time.process_time()
        log = write_log(world, LoggingSettings(), users, 7, Path(folder) / "log")
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"wrote {log.events:,} events ({log.impressions:,} impressions) of {log.users:,} users, {log.items:,} items "
        f"in {seconds:.1f} s, {cpu:.1f} s of CPU: {log.events / cpu:,.0f} events per CPU-second, "
        f"peak {peak / 1024**3:.2f} GiB"
    )
    if cpu > _BOUND_S * max(1.0, log.events / 1e7):
        sys.exit(f"more than {_BOUND_S:g} s of CPU for 10 M events")
    if peak > _BOUND_BYTES:
        sys.exit(f"peak memory is above {_BOUND_BYTES / 1024**3:g} GiB")


if __name__ == "__main__":
    main()
