"""A bundle comes back as it went, holds nothing that could run, and says what is wrong with what is none."""

import json
import pickletools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.artifacts.bundle import load_bundle, read_catalogue, save_bundle
from recsys.artifacts.bundle_info import ranker_name
from recsys.errors import UserError
from recsys.recommender import LoggedEvent, Recommender
from tests.factories import write_tiny_bundle

EVENTS = [LoggedEvent("i3", "purchase", None, 0.0, "a"), LoggedEvent("i7", "click", None, 60.0, "a")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "v1")


def test_a_bundle_written_again_recommends_the_same(folder: Path, tmp_path: Path) -> None:
    first = load_bundle(folder)
    save_bundle(
        tmp_path / "v2",
        first.info,
        first.student,
        first.prior,
        first.table,
        torch.from_numpy(first.popularity),
        first.catalogue,
        first.index,
    )
    one, other = Recommender(first), Recommender(load_bundle(tmp_path / "v2"))
    for seed in range(5):
        given = [
            recommender.recommend(recommender.history(EVENTS, {"country": "UK"}), 8, seed=seed)
            for recommender in (one, other)
        ]
        assert given[0].items.tolist() == given[1].items.tolist()
        np.testing.assert_array_equal(given[0].scores, given[1].scores)
        np.testing.assert_array_equal(given[0].propensities, given[1].propensities)
    assert one.popular(5, seed=0).items.tolist() == other.popular(5, seed=0).items.tolist()


def test_everything_but_the_weights_comes_back_equal(folder: Path) -> None:
    first, second = load_bundle(folder), load_bundle(folder)
    assert first.info == second.info
    assert first.version == "v1"
    assert first.catalogue.item_ids == second.catalogue.item_ids
    assert first.catalogue.categories == second.catalogue.categories
    np.testing.assert_array_equal(first.catalogue.price, second.catalogue.price)
    assert first.student.shape == first.info.shape
    assert not any(p.requires_grad for module in (first.student, first.prior) for p in module.parameters())
    assert not first.student.training


def test_no_file_is_a_pickle(folder: Path) -> None:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} == {".json", ".safetensors", ".parquet", ".faiss"}
    for path in paths:
        content = path.read_bytes()
        assert not content.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
        with pytest.raises(Exception):  # noqa: B017, PT011  pickletools has no exception of its own
            list(pickletools.genops(content))


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="no bundle at"):
            load_bundle(path)


@pytest.mark.parametrize("form", [0, 3, "2", None])
def test_another_format_is_refused_with_the_remedy(folder: Path, form: object) -> None:
    path = folder / "bundle.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"format": form}))
    with pytest.raises(UserError, match="publish it again"):
        load_bundle(folder)


def test_a_bundle_from_before_baselines_is_still_read(folder: Path) -> None:
    expected = load_bundle(folder).info
    path = folder / "bundle.json"
    raw = json.loads(path.read_text())
    assert raw.pop("ranker") == "q"
    path.write_text(json.dumps(raw | {"format": 1}))
    assert load_bundle(folder).info == expected
    assert ranker_name(folder) == "q"


def test_an_unknown_ranker_is_refused_with_the_remedy(folder: Path) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ranker": "oracle"}))
    with pytest.raises(
        UserError, match=r"the ranker 'oracle', this version knows q and policy; publish it again"
    ):
        load_bundle(folder)


def test_a_bundle_is_never_written_over(folder: Path) -> None:
    with pytest.raises(FileExistsError):
        write_tiny_bundle(folder)


def test_a_catalogue_without_optional_columns_is_empty_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["A", None]}), tmp_path / "items.parquet")
    catalogue = read_catalogue(tmp_path / "items.parquet")
    assert catalogue.titles == ("A", "")
    assert catalogue.categories == ((), ())
    assert np.isnan(catalogue.price).all()
    assert catalogue.available.all()
    assert catalogue.index_of == {"a": 0, "b": 1}
    assert catalogue.ids([1, 0]) == ["b", "a"]


FILES = (
    "bundle.json",
    "student.safetensors",
    "prior.safetensors",
    "items.safetensors",
    "items.parquet",
    "index.faiss",
)


@pytest.mark.parametrize("damage", ["junk", "cut", "empty", "missing", "folder"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_with_the_remedy(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "junk":
            path.write_bytes(b"\xff junk\n" * 100)
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
    with pytest.raises(UserError, match=r"no bundle at|publish it again|build it again") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": 1}', '{"format": 1, "shape": []}'])
def test_a_description_that_says_something_else_is_damage(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(UserError, match="publish it again"):
        load_bundle(folder)


def test_files_of_two_bundles_do_not_make_one(folder: Path) -> None:
    items = pq.read_table(folder / "items.parquet")
    pq.write_table(items.slice(1), folder / "items.parquet")
    with pytest.raises(UserError, match="items differ in number"):
        load_bundle(folder)
