"""One battery for every kind of index; the exact one against numpy."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from recsys.candidates.index import build_index, choose_index, item_mixtures, load_index, recall
from recsys.candidates.whitened import whitening
from recsys.config import IndexConfig
from recsys.errors import UserError

FLAT = IndexConfig(kind="flat")
KINDS = [
    FLAT,
    IndexConfig(kind="ivf", ivf_cells=16, ivf_probes=8),
    IndexConfig(kind="ivf_whitened", ivf_cells=16, ivf_probes=8),
    IndexConfig(kind="hnsw", hnsw_links=16),
]
GENERATOR = np.random.default_rng(0)
VECTORS = GENERATOR.normal(size=(1500, 12)).astype(np.float32)
QUERIES = GENERATOR.normal(size=(40, 12)).astype(np.float32)

every_kind = pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)


def test_exact_search_is_a_sort() -> None:
    items, products = build_index(VECTORS, FLAT).search(QUERIES, 10)
    expected = QUERIES @ VECTORS.T
    np.testing.assert_array_equal(items, np.argsort(-expected, axis=1)[:, :10])
    np.testing.assert_allclose(products, -np.sort(-expected, axis=1)[:, :10], rtol=1e-4, atol=1e-5)


@every_kind
def test_a_kind_finds_nearly_what_exact_search_finds(config: IndexConfig) -> None:
    index = build_index(VECTORS, config)
    assert (len(index), index.features) == (1500, 12)
    assert recall(index, VECTORS, QUERIES, 10) >= (1.0 if config.kind == "flat" else 0.9)


@every_kind
def test_products_are_those_of_the_items_found_and_fall(config: IndexConfig) -> None:
    items, products = build_index(VECTORS, config).search(QUERIES, 20)
    assert items.shape == products.shape == (40, 20)
    for row in range(40):
        found = items[row] >= 0
        np.testing.assert_allclose(
            products[row][found], VECTORS[items[row][found]] @ QUERIES[row], rtol=1e-3, atol=1e-4
        )
        assert (np.diff(products[row][found]) <= 1e-6).all()
        assert len(set(items[row][found])) == found.sum()


@every_kind
def test_an_index_comes_back_from_disk_as_it_was(config: IndexConfig, tmp_path: Path) -> None:
    index = build_index(VECTORS, config)
    index.save(tmp_path / "index.faiss")
    items, _ = load_index(tmp_path / "index.faiss", config).search(QUERIES, 10)
    np.testing.assert_array_equal(items, index.search(QUERIES, 10)[0])


@every_kind
def test_more_than_there_is_gives_what_there_is(config: IndexConfig) -> None:
    items, _ = build_index(VECTORS[:30], config).search(QUERIES[:2], 1000)
    assert items.shape == (2, 30)
    assert set(items[0].tolist()) - {-1} <= set(range(30))


def test_a_catalogue_too_small_for_cells_is_searched_exactly() -> None:
    index = build_index(VECTORS, IndexConfig(kind="ivf", ivf_cells=256))
    assert recall(index, VECTORS, QUERIES, 20) == 1.0


def test_what_is_no_index_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    for content in (b"", b"not an index at all"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a FAISS index") as caught:
            load_index(path, FLAT)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not a FAISS index"):
        load_index(tmp_path / "absent.faiss", FLAT)


def test_a_mapped_index_reads_its_cells_in_the_thread_that_asks(tmp_path: Path) -> None:
    config = IndexConfig(kind="ivf", ivf_cells=16, ivf_probes=8)
    build_index(VECTORS, config).save(tmp_path / "index.faiss")
    index = load_index(tmp_path / "index.faiss", config)  # lists do not keep their index alive
    lists = faiss.downcast_InvertedLists(index._index.invlists)
    assert isinstance(lists, faiss.OnDiskInvertedLists)  # else there is nothing to switch off
    assert lists.prefetch_nthread == 0


@pytest.mark.parametrize(
    "config", [*KINDS, IndexConfig(kind="ivf_sq8", ivf_cells=16, ivf_probes=16)], ids=lambda c: c.kind
)
def test_under_a_mask_only_what_it_allows_is_found(config: IndexConfig) -> None:
    index = build_index(VECTORS, config)
    allowed = GENERATOR.random(len(VECTORS)) < 0.3
    items, _ = index.search(QUERIES, 50, allowed)
    found = items[items >= 0]
    assert allowed[found].all()
    exact = np.argsort(-np.where(allowed, QUERIES @ VECTORS.T, -np.inf), axis=1)[:, :50]
    hits = np.mean([len(np.intersect1d(one, other)) for one, other in zip(items, exact, strict=True)]) / 50
    assert hits >= (1.0 if config.kind == "flat" else 0.8)


def clustered(items: int, spread: float) -> np.ndarray:
    centres = GENERATOR.normal(size=(150, 16))
    rows = centres[GENERATOR.integers(150, size=items)] + spread * GENERATOR.normal(size=(items, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_index_is_chosen_by_the_recall_it_has_on_these_vectors() -> None:
    config = IndexConfig(kind="auto", candidates=50)
    few, chosen, found = choose_index(VECTORS, config, seed=0)
    assert (chosen.kind, found, len(few)) == ("flat", 1.0, 1500)
    probes = {}
    for name, spread in (("clustered", 0.1), ("scattered", 3.0)):
        vectors = clustered(22_000, spread)
        index, chosen, found = choose_index(vectors, config, seed=0)
        assert found >= config.min_recall
        assert chosen.kind != "auto"
        others = item_mixtures(vectors, 400, np.random.default_rng(1))
        assert recall(index, vectors, others, 50) >= 0.98
        probes[name] = chosen.ivf_probes if chosen.kind.startswith("ivf") else 10_000
    assert probes["clustered"] < probes["scattered"]


def test_a_setting_that_is_given_is_built_as_it_says_and_measured() -> None:
    index, chosen, found = choose_index(VECTORS, IndexConfig(kind="ivf", ivf_cells=16, ivf_probes=1), seed=0)
    assert (chosen.kind, chosen.ivf_probes, len(index)) == ("ivf", 1, 1500)
    assert 0.0 < found < 1.0


def test_the_index_is_judged_by_what_users_ask_where_it_is_told() -> None:
    vectors = clustered(22_000, 0.3)
    config = IndexConfig(kind="auto", candidates=50)
    near, scattered = vectors[:200], GENERATOR.normal(size=(200, 16)).astype(np.float32)
    easy = choose_index(vectors, config, seed=0, queries=near)[1]
    hard = choose_index(vectors, config, seed=0, queries=scattered)[1]
    assert easy.ivf_probes < (hard.ivf_probes if hard.kind.startswith("ivf") else 10_000)


def test_whitening_keeps_inner_products_and_makes_queries_round() -> None:
    queries = (QUERIES * np.linspace(0.1, 3.0, 12)).astype(np.float32)
    of_items, of_queries = whitening(queries)
    np.testing.assert_allclose(
        (queries @ of_queries) @ (VECTORS @ of_items).T, queries @ VECTORS.T, atol=1e-4
    )
    turned = queries @ of_queries
    np.testing.assert_allclose(turned.T @ turned / len(queries), np.eye(12), atol=0.05)


def test_cells_laid_where_users_look_find_more_than_cells_of_all_directions(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    vectors = chance.normal(size=(20_000, 24)).astype(np.float32)
    looks = np.r_[np.full(4, 1.0), np.full(20, 0.05)]  # along four of the directions
    asked = (chance.normal(size=(400, 24)) * looks).astype(np.float32)
    found = {}
    for kind in ("ivf", "ivf_whitened"):
        config = IndexConfig(kind=kind, ivf_cells=200, ivf_probes=10)
        build_index(vectors, config, asked[:200]).save(tmp_path / kind)
        found[kind] = recall(load_index(tmp_path / kind, config), vectors, asked[200:], 50)
    assert found["ivf_whitened"] > found["ivf"] + 0.2
    assert found["ivf_whitened"] > 0.9
