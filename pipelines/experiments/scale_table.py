"""Measurements as tables: cost = a · n^b through the sizes of each stage, carried to what nobody has measured here."""

from typing import Any

import numpy as np

TARGETS = {"events": 10_000_000_000, "items": 100_000_000}
GRAINS = {"events": "M events", "items": "M items"}


def fitted(sizes: list[float], costs: list[float]) -> tuple[float, float]:
    """Return (a, b) of cost = a · n^b, least squares of logarithms; the largest size is met exactly.

    What is carried forward starts from the largest measurement, because constants fade there.
    """
    x, y = np.log(sizes), np.log(np.maximum(costs, 1e-6))
    slope = float(np.polyfit(x, y, 1)[0]) if len(sizes) > 1 else 1.0
    return float(np.exp(y[-1] - slope * x[-1])), slope


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a row for each stage: what was measured, the fit, and what it comes to."""
    names = list(dict.fromkeys((row["by"], row["stage"]) for row in rows if "cpu_s" in row))
    for by, stage in names:
        mine = sorted((r for r in rows if (r["by"], r["stage"]) == (by, stage)), key=lambda r: r[by])
        sizes = [float(row[by]) for row in mine]
        a, b = fitted(sizes, [row["cpu_s"] for row in mine])
        target = TARGETS[by]
        measured = ", ".join(
            f"{size / 1e6:g} {GRAINS[by]}: {row['cpu_s']:g} s, {row['peak_mb']} MB, {row.get('disk_mb', 0)} MB written"
            for size, row in zip(sizes, mine, strict=True)
        )
        hours = a * target**b / 3600
        print(f"{stage:12} {measured}\n{'':12} cost ~ n^{b:.2f}; {target:,} {by}: {hours:,.1f} CPU hours")
    for row in rows:
        if "cpu_s" not in row:
            print({key: value for key, value in row.items() if value is not None})
