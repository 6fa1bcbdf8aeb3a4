"""What a catalogue ten times as large costs a list: CPU time in process, 1 M items beside 100 k, in turns.

    python -m tests.benchmarks.bench_catalogue [--small 100000] [--large 1000000] [--lists 300]

CPU seconds of one thread, so that what else the machine does counts little; users do something between two lists, so
each is adapted anew. Both have an IVF index with 8-bit codes and eight probes; cells grow with the items, so that as
many are looked at.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from recsys.config import IndexConfig
from recsys.recommender import LoggedEvent, Recommender, load_recommender
from tests.benchmarks.bench_endpoint import write_bundle

EVENTS, N = 20, 20


def cpu_ms(recommender: Recommender, lists: int, seed: int) -> float:
    """Return the median CPU milliseconds of a list for a user with twenty events."""
    generator = np.random.default_rng(seed)
    ids, took = recommender.catalogue.item_ids, []
    for turn in range(lists):
        items = generator.integers(0, len(ids), EVENTS).tolist()
        events = [
            LoggedEvent(ids[item], "click", None, 60.0 * place, None) for place, item in enumerate(items)
        ]
        began = time.process_time()
        recommender.recommend(recommender.history(events), N, seed=turn)
        took.append(time.process_time() - began)
    return float(np.median(took)) * 1e3


def bench(folder: Path, small: int, large: int, lists: int) -> None:
    """Print both and their ratio."""
    index = {
        items: IndexConfig(kind="ivf_sq8", ivf_cells=256 * items // small, ivf_probes=8)
        for items in (small, large)
    }
    models = {
        items: load_recommender(write_bundle(folder / str(items), items, index[items]))
        for items in (small, large)
    }
    rounds = {items: [] for items in models}
    for turn in range(5):
        for items, model in models.items():
            rounds[items].append(cpu_ms(model, lists // 5, turn))
    figures = {items: float(np.median(each)) for items, each in rounds.items()}
    told = ", ".join(f"{items:,} items {figure:.2f} ms" for items, figure in figures.items())
    print(f"\nCPU a list, adapted anew: {told}: {figures[large] / figures[small]:.2f} ×")


def test_a_million_items_beside_a_hundred_thousand(tmp_path: Path) -> None:
    bench(tmp_path, 100_000, 1_000_000, 300)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--lists", type=int, default=300)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench(Path(scratch), asked.small, asked.large, asked.lists)
