"""What ways to compute the same thing cost, in CPU time of one process."""

import time
from collections.abc import Callable, Mapping
from statistics import median

COLD_TURNS = 5  # at first, that do not count


def cpu_ms(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Let all ways take turns; return the median CPU milliseconds of each."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, way in ways.items():
            way()  # the one before it had the caches to itself
            began = time.process_time()
            way()
            if turn >= COLD_TURNS:
                took[name].append((time.process_time() - began) * 1e3)
    return {name: median(times) for name, times in took.items()}
