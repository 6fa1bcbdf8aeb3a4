"""The candidate index: maximum inner-product search over item vectors. The only room that knows FAISS."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from recsys.config import IndexConfig
from recsys.errors import UserError
from recsys.types import BoolArray, FloatArray, LongArray

MIN_ITEMS_PER_CELL = 40  # what FAISS asks for to train a cell
_TAUGHT_PER_CELL = (
    64  # items at most that a cell is placed by; FAISS's 256 take four times as long at a million items
)


class CandidateIndex:
    """A FAISS index whose row numbers are item indices."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def features(self) -> int:
        """Width of the item vectors."""
        return int(self._index.d)

    def search(
        self, query: npt.NDArray[np.float32], count: int, allowed: BoolArray | None = None
    ) -> tuple[LongArray, FloatArray]:
        """Return (items, inner products) of the best matches, both (query, count); missing ones are item -1.

        With a mask, (item,), only items that it allows are looked at.
        """
        asked, wanted = np.ascontiguousarray(query, np.float32), min(count, len(self))
        if allowed is None:
            products, items = self._index.search(asked, wanted)
            return items, products
        bits = np.packbits(allowed[: len(self)], bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        products, items = self._index.search(asked, wanted, params=self._only(selector))
        return items, products

    def _only(self, selector: Any) -> Any:
        """Return search parameters of the index's kind; its effort stands in them, not in the index."""
        library: Any = faiss  # whose stubs do not know these
        if isinstance(self._index, faiss.IndexIVF):
            return library.SearchParametersIVF(sel=selector, nprobe=self._index.nprobe)
        if isinstance(self._index, faiss.IndexHNSW):
            return library.SearchParametersHNSW(sel=selector, efSearch=self._index.hnsw.efSearch)
        return library.SearchParameters(sel=selector)

    def with_probes(self, probes: int) -> "CandidateIndex":
        """Return the same index with another number of cells that a search looks into; no effect without cells."""
        library: Any = faiss
        if (cells := library.try_extract_index_ivf(self._index)) is not None:
            cells.nprobe = probes
        return self

    def save(self, path: Path) -> None:
        """Write the index to a file."""
        faiss.write_index(self._index, str(path))


def build_index(vectors: FloatArray, config: IndexConfig) -> CandidateIndex:
    """Build the configured kind of index over item vectors, (item, feature)."""
    items, features = vectors.shape
    metric = faiss.METRIC_INNER_PRODUCT
    index: faiss.Index
    if config.kind == "ivf" and items >= MIN_ITEMS_PER_CELL * config.ivf_cells:
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(features), features, config.ivf_cells, metric)
        _teach(index, vectors)
    elif config.kind == "ivf_sq8" and items >= MIN_ITEMS_PER_CELL * config.ivf_cells:
        index = faiss.index_factory(features, f"IVF{config.ivf_cells},SQ8", metric)
        _teach(index, vectors)
    elif config.kind == "hnsw":
        index = faiss.IndexHNSWFlat(features, config.hnsw_links, metric)
    else:  # too few items to train cells: exact search is faster anyway
        index = faiss.IndexFlatIP(features)
    _set_effort(index, config)
    index.add(np.ascontiguousarray(vectors, np.float32))
    return CandidateIndex(index)


def _teach(index: Any, vectors: FloatArray) -> None:
    index.cp.max_points_per_centroid = _TAUGHT_PER_CELL
    index.train(vectors)


def factory_index(vectors: FloatArray, factory: str, probes: int | None = None) -> CandidateIndex:
    """Build any index that FAISS's factory names, for measurements beside what bundles take."""
    index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if "IVF" in factory:
        library: Any = faiss
        library.extract_index_ivf(index).cp.max_points_per_centroid = _TAUGHT_PER_CELL
    index.train(vectors)
    index.add(np.ascontiguousarray(vectors, np.float32))
    built = CandidateIndex(index)
    return built if probes is None else built.with_probes(probes)


def item_mixtures(vectors: FloatArray, count: int, generator: np.random.Generator) -> FloatArray:
    """Return points on the lines between random pairs of items, (query, feature)."""
    pairs = generator.integers(len(vectors), size=(count, 2))
    share = generator.random((count, 1), np.float32)
    mixed: FloatArray = share * vectors[pairs[:, 0]] + (1 - share) * vectors[pairs[:, 1]]
    return mixed


EXACT_BELOW = 20_000  # items; so few are searched exactly faster than any other way
_JUDGED_BY = 200  # queries


def choose_index(
    vectors: FloatArray, config: IndexConfig, seed: int, queries: FloatArray | None = None
) -> tuple[CandidateIndex, IndexConfig, float]:
    """Return an index, its settings with nothing left open, and its recall against exact search on these vectors.

    "auto" takes the first of exact search (few items), IVF with 8-bit codes, IVF and exact search that finds
    `min_recall` of the exact candidates, with as few probes as do. Clustered and unclustered vectors need very
    different numbers of probes, so a setting that was right for one bundle says nothing of another. Any other kind is
    built as it says. `queries`, (query, feature), are those of users; without them, mixtures of two items are asked
    for, which need not go together and are harder to find neighbours of.
    """
    if queries is None or len(queries) == 0:
        queries = item_mixtures(vectors, _JUDGED_BY, np.random.default_rng(seed))
    exact = build_index(vectors, IndexConfig(kind="flat"))
    count = min(config.candidates, len(vectors))
    if config.kind != "auto":
        index = build_index(vectors, config)
        return index, config, _recall(index, exact, queries, count)
    if len(vectors) < EXACT_BELOW:
        return exact, config.model_copy(update={"kind": "flat"}), 1.0
    cells = min(int(4 * len(vectors) ** 0.5), len(vectors) // MIN_ITEMS_PER_CELL)
    for kind in ("ivf_sq8", "ivf"):
        tried = config.model_copy(update={"kind": kind, "ivf_cells": cells})
        index = build_index(vectors, tried)
        probes = 4
        while probes <= cells // 8:  # beyond, exact search is as fast
            tried = tried.model_copy(update={"ivf_probes": probes})
            _set_effort(index._index, tried)
            found = _recall(index, exact, queries, count)
            if found >= config.min_recall:
                return index, tried, found
            probes *= 2
    return exact, config.model_copy(update={"kind": "flat"}), 1.0


def _recall(index: CandidateIndex, exact: CandidateIndex, queries: FloatArray, count: int) -> float:
    wanted, found = exact.search(queries, count)[0], index.search(queries, count)[0]
    hits = [len(np.intersect1d(one, other)) for one, other in zip(wanted, found, strict=True)]
    return float(np.mean(hits) / wanted.shape[1])


def load_index(path: Path, config: IndexConfig) -> CandidateIndex:
    """Read an index from a file and set its search effort; raises UserError if it is not one."""
    try:
        # mapped, so that workers share what the index kind lets them share
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise UserError(
            f"{path} is not a FAISS index ({str(error).splitlines()[0]}); build it again"
        ) from None
    if isinstance(index, faiss.IndexIVF) and index.invlists is not None:
        lists: Any = faiss.downcast_InvertedLists(index.invlists)
        if isinstance(lists, faiss.OnDiskInvertedLists):
            # by default a search starts threads that read its cells ahead, which takes longer than the search
            lists.prefetch_nthread = 0
    _set_effort(index, config)
    return CandidateIndex(index)


def _set_effort(index: faiss.Index, config: IndexConfig) -> None:
    """Set how far a search looks; FAISS keeps neither number in the file."""
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = config.ivf_probes
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = config.hnsw_ef


def recall(index: CandidateIndex, vectors: FloatArray, queries: FloatArray, count: int) -> float:
    """Return the share of exact top-`count` neighbours that the index finds."""
    exact = build_index(vectors, IndexConfig(kind="flat")).search(queries, count)[0]
    found = index.search(queries, count)[0]
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    return float(np.mean(hits) / exact.shape[1])
