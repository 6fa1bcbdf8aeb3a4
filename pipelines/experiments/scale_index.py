"""Search over a bundle's own vectors, and over random ones: recall@200, time and memory of each kind of index.

Queries are mixtures of two items' vectors, as where the `index` step judges a bundle; a random catalogue, as wide and
as long and without any clusters, is asked for mixtures likewise. An index in a file, mapped, stands for one that memory
does not hold. One thread; times are medians over single queries.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from recsys.artifacts.bundle import load_bundle
from recsys.artifacts.bundle_info import QInfo
from recsys.candidates.index import CandidateIndex, factory_index, load_index
from recsys.config import IndexConfig
from recsys.recommender import LoggedEvent, load_recommender
from recsys.types import FloatArray, LongArray

COUNT = 200
QUERIES = 100
RECALL = 0.99
Row = dict[str, Any]


def measure_search(bundle: Path) -> list[Row]:
    """Return rows for the bundle as it is served, and for kinds of index over its vectors and over random ones."""
    loaded = load_bundle(bundle)
    assert isinstance(loaded.info, QInfo)  # noqa: S101
    vectors = np.ascontiguousarray(loaded.table.index_vectors().numpy())
    rows = [_served(bundle, loaded.info.index)]
    rows += _kinds("trained", vectors)
    noise = np.random.default_rng(7).standard_normal(vectors.shape, dtype=np.float32)
    return rows + _kinds("random", noise)


def _served(bundle: Path, index: IndexConfig) -> Row:
    recommender = load_recommender(bundle)
    ids, kind = recommender.catalogue.item_ids, recommender.event_types[-1]
    chance = np.random.default_rng(7)
    taken = []
    for number in range(QUERIES):
        events = [
            LoggedEvent(ids[int(item)], kind, None, 1_600_000_000 + 60 * place, None)
            for place, item in enumerate(chance.integers(len(ids), size=3))
        ]
        history = recommender.history(events)
        began = time.perf_counter()
        recommender.recommend(history, 10, seed=number)
        taken.append(time.perf_counter() - began)
    cells = f"{index.ivf_cells} cells, {index.ivf_probes} probes" if index.kind.startswith("ivf") else ""
    return {
        "stage": "served bundle",
        "index": f"{index.kind} {cells}".strip(),
        "request_ms": round(1000 * float(np.median(taken)), 3),
        "request_p99_ms": round(1000 * float(np.quantile(taken, 0.99)), 3),
    }


def _kinds(what: str, vectors: FloatArray) -> list[Row]:
    items, features = vectors.shape
    cells = max(16, min(int(4 * items**0.5), items // 40))
    codes = features // 4
    chance = np.random.default_rng(8)
    pairs = chance.integers(items, size=(QUERIES, 2))
    share = chance.random((QUERIES, 1), np.float32)
    queries = share * vectors[pairs[:, 0]] + (1 - share) * vectors[pairs[:, 1]]
    exact, row = _row(what, "Flat", factory_index(vectors, "Flat"), queries, None, 0)
    rows = [row]
    for factory in (
        f"IVF{cells},SQ8",
        f"IVF{cells},Flat",
        f"PCAR{codes * 4},IVF{cells},PQ{codes * 2}x8",
        f"PCAR{codes * 4},IVF{cells},PQ{codes}x8",
    ):
        began = time.process_time()
        index = factory_index(vectors, factory)
        built = round(time.process_time() - began, 1)
        for probes in (4, 16, 64, 256):
            if probes > cells:
                break
            _, row = _row(
                what, f"{factory} probes {probes}", index.with_probes(probes), queries, exact, probes
            )
            rows.append({**row, "build_cpu_s": built})
            if row["recall"] >= RECALL:
                break
    return rows


def _row(
    what: str, name: str, index: CandidateIndex, queries: FloatArray, exact: LongArray | None, probes: int
) -> tuple[LongArray, Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        index.save(path)
        megabytes = round(path.stat().st_size / 1e6, 1)
        mapped = (
            _median_ms(load_index(path, IndexConfig(kind="flat")).with_probes(probes), queries)
            if "IVF" in name
            else None
        )
    found = index.search(queries, COUNT)[0]
    recall = (
        1.0
        if exact is None
        else float(np.mean([len(np.intersect1d(a, b)) / COUNT for a, b in zip(found, exact, strict=True)]))
    )
    row = {
        "stage": f"search, {what} vectors",
        "index": name,
        "recall": round(recall, 4),
        "search_ms": _median_ms(index, queries),
        "mapped_ms": mapped,
        "index_mb": megabytes,
    }
    return found, row


def _median_ms(index: CandidateIndex, queries: FloatArray) -> float:
    taken = []
    for query in queries:
        began = time.perf_counter()
        index.search(query[None], COUNT)
        taken.append(time.perf_counter() - began)
    return round(1000 * float(np.median(taken)), 3)
