"""Search over vectors that were trained, and over random ones: recall@200, time and memory of each kind of index.

Queries are mixtures of two items' vectors, or those of a bundle's own test users; a random catalogue, as wide and
as long and without any clusters, is asked for mixtures likewise. An index in a file, mapped, stands for one that memory
does not hold. One thread; times are medians over single queries.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.candidates.index import CandidateIndex, factory_index, item_mixtures, load_index
from recsys.config import IndexConfig
from recsys.types import FloatArray, LongArray

COUNT = 200
QUERIES = 100
RECALL = 0.99
CODED = "IVF{cells},SQ8"
PLAIN = "IVF{cells},Flat"
QUANTIZED = ("PCAR{reduced},IVF{cells},PQ{twice}x8", "PCAR{reduced},IVF{cells},PQ{codes}x8")
Row = dict[str, Any]


def measure_search(
    vectors: FloatArray,
    what: str,
    kinds: Sequence[str],
    queries: FloatArray | None = None,
    built_before: Mapping[str, CandidateIndex] | None = None,
) -> list[Row]:
    """Return a row for exact search and one for each kind and number of probes, up to the first that finds enough.

    Indices over the same vectors that were built before have a row each, by their names.
    """
    items, features = vectors.shape
    cells = max(16, min(int(4 * items**0.5), items // 40))
    codes = features // 4
    if queries is None:
        queries = item_mixtures(vectors, QUERIES, np.random.default_rng(8))
    exact, row = _row(what, "Flat", factory_index(vectors, "Flat"), queries, None)
    rows = [row]
    for kind in kinds:
        factory = kind.format(cells=cells, reduced=codes * 4, codes=codes, twice=codes * 2)
        began = time.process_time()
        index = factory_index(vectors, factory)
        built = round(time.process_time() - began, 1)
        for probes in (4, 16, 64, 256):
            if probes > cells:
                break
            probing = index.with_probes(probes)
            _, row = _row(what, f"{factory} probes {probes}", probing, queries, exact, probes)
            rows.append({**row, "build_cpu_s": built})
            if row["recall"] >= RECALL:
                break
    for name, index in (built_before or {}).items():
        rows.append(_row(what, name, index, queries, exact)[1])
    return rows


def _row(
    what: str, name: str, index: CandidateIndex, queries: FloatArray, exact: LongArray | None, probes: int = 0
) -> tuple[LongArray, Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        index.save(path)
        megabytes = round(path.stat().st_size / 1e6, 1)
        mapped = (
            _median_ms(load_index(path, IndexConfig(kind="flat")).with_probes(probes), queries)
            if probes
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
