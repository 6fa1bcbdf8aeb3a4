"""What ways to compute the same thing cost, in CPU time of one process."""

import time
from collections.abc import Callable, Mapping
from statistics import median

COLD_TURNS = 5  # at first, that do not count
ROWS, IN_A_ROW, COLD_CALLS = 15, 20, 3


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


def cpu_ms_in_a_row(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Let all ways take turns at IN_A_ROW calls one after the other; return the median CPU milliseconds of a call.

    What answers nothing but such calls has its caches for itself; `cpu_ms` leaves them to the other ways in between.
    """
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROWS):
        for name, way in ways.items():
            for _ in range(COLD_CALLS):
                way()
            began = time.process_time()
            for _ in range(IN_A_ROW):
                way()
            took[name].append((time.process_time() - began) * 1e3 / IN_A_ROW)
    return {name: median(times) for name, times in took.items()}
