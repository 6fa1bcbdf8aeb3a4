"""The candidate index: maximum inner-product search over item vectors; FAISS is met in this package alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from recsys.candidates.whitened import TAUGHT_PER_CELL, whitened_cells, whitened_index
from recsys.config import IndexConfig
from recsys.errors import UserError
from recsys.types import BoolArray, FloatArray, LongArray

MIN_ITEMS_PER_CELL = 40  # what FAISS asks for to train a cell


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
        if (cells := _cells_of(self._index)) is not None:
            inner = library.SearchParametersIVF(sel=selector, nprobe=cells.nprobe)
            if cells is self._index:
                return inner
            return library.SearchParametersPreTransform(index_params=inner)
        if isinstance(self._index, faiss.IndexHNSW):
            return library.SearchParametersHNSW(sel=selector, efSearch=self._index.hnsw.efSearch)
        return library.SearchParameters(sel=selector)

    def with_probes(self, probes: int) -> "CandidateIndex":
        """Return the same index with another number of cells that a search looks into; no effect without cells."""
        if (cells := _cells_of(self._index)) is not None:
            cells.nprobe = probes
        return self

    def save(self, path: Path) -> None:
        """Write the index to a file."""
        faiss.write_index(self._index, str(path))


def _cells_of(index: faiss.Index) -> Any:
    """Return the part of an index that has cells, itself or behind a map of queries; None without."""
    if isinstance(index, faiss.IndexIVF):
        return index
    return whitened_cells(index) if isinstance(index, faiss.IndexPreTransform) else None


def build_index(
    vectors: FloatArray, config: IndexConfig, queries: FloatArray | None = None
) -> CandidateIndex:
    """Build the configured kind of index over item vectors, (item, feature); `queries` are what users ask."""
    items, features = vectors.shape
    if config.kind == "ivf_whitened" and items >= MIN_ITEMS_PER_CELL * config.ivf_cells:
        if queries is None:
            queries = item_mixtures(vectors, _JUDGED_BY, np.random.default_rng(0))
        whitened = whitened_index(vectors, queries, config.ivf_cells)
        _set_effort(whitened, config)
        return CandidateIndex(whitened)
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
    index.cp.max_points_per_centroid = TAUGHT_PER_CELL
    index.train(vectors)


def factory_index(vectors: FloatArray, factory: str, probes: int | None = None) -> CandidateIndex:
    """Build any index that FAISS's factory names, for measurements beside what bundles take."""
    index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if "IVF" in factory:
        library: Any = faiss
        library.extract_index_ivf(index).cp.max_points_per_centroid = TAUGHT_PER_CELL
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

    "auto" takes the first of exact search (few items), IVF with 8-bit codes, whitened IVF and exact search that finds
    `min_recall` of the exact candidates, with as few probes as do. Clustered and unclustered vectors need very
    different numbers of probes, so a setting that was right for one bundle says nothing of another. Any other kind is
    built as it says. `queries`, (query, feature), are those of users; without them, mixtures of two items are asked
    for, which need not go together and are harder to find neighbours of.
    """
    if queries is None or len(queries) == 0:
        queries = item_mixtures(vectors, _JUDGED_BY, np.random.default_rng(seed))
    exact = build_index(vectors, IndexConfig(kind="flat"))
    count = min(config.candidates, len(vectors))
    wanted = exact.search(queries, count)[0]
    if config.kind != "auto":
        index = build_index(vectors, config, queries)
        return index, config, _share(wanted, index.search(queries, count)[0])
    if len(vectors) < EXACT_BELOW:
        return exact, config.model_copy(update={"kind": "flat"}), 1.0
    for kind, density in (("ivf_sq8", 4), ("ivf_whitened", 10)):
        cells = min(int(density * len(vectors) ** 0.5), len(vectors) // MIN_ITEMS_PER_CELL)
        tried = config.model_copy(update={"kind": kind, "ivf_cells": cells})
        index = build_index(vectors, tried, queries)

        def found(probes: int, index: CandidateIndex = index) -> float:
            return _share(wanted, index.with_probes(probes).search(queries, count)[0])

        if (probes := _fewest(found, config.min_recall, cells // 8)) is not None:
            tried = tried.model_copy(update={"ivf_probes": probes})
            return index, tried, found(probes)
    return exact, config.model_copy(update={"kind": "flat"}), 1.0


def _fewest(found: Callable[[int], float], wanted: float, most: int) -> int | None:
    """Return about the fewest probes with a recall, to a tenth; None if `most` do not reach it."""
    enough = 4
    while found(enough) < wanted:
        if (enough := enough * 2) > most:  # beyond, exact search is as fast
            return None
    too_few = enough // 2 if enough > 4 else 0
    while enough - too_few > max(1, enough // 10):
        between = (enough + too_few) // 2
        too_few, enough = (too_few, between) if found(between) >= wanted else (between, enough)
    return enough


def _share(wanted: LongArray, found: LongArray) -> float:
    """Return the share of items, (query, item), that was found."""
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
    if (cells := _cells_of(index)) is not None and cells.invlists is not None:
        lists: Any = faiss.downcast_InvertedLists(cells.invlists)
        if isinstance(lists, faiss.OnDiskInvertedLists):
            # by default a search starts threads that read its cells ahead, which takes longer than the search
            lists.prefetch_nthread = 0
    _set_effort(index, config)
    return CandidateIndex(index)


def _set_effort(index: faiss.Index, config: IndexConfig) -> None:
    """Set how far a search looks; FAISS keeps neither number in the file."""
    if (cells := _cells_of(index)) is not None:
        cells.nprobe = config.ivf_probes
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = config.hnsw_ef


def recall(index: CandidateIndex, vectors: FloatArray, queries: FloatArray, count: int) -> float:
    """Return the share of exact top-`count` neighbours that the index finds."""
    exact = build_index(vectors, IndexConfig(kind="flat")).search(queries, count)[0]
    return _share(exact, index.search(queries, count)[0])
