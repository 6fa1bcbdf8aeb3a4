"""A bundle around a baseline comes back as it went, and says what is wrong with one that is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recsys.artifacts.bundle import PolicyBundle, load_bundle
from recsys.artifacts.bundle_info import ranker_name
from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from recsys.logs.prepared import training_histories
from recsys.policies.item_knn import ItemKnn
from tests.factories import write_policy_bundle
from tests.memory_log import memory_log, random_told

ITEMS = 12
FILES = ("bundle.json", "items.safetensors", "items.parquet", "policy.json", "policy.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, 12, ITEMS) for _ in range(30)], items=ITEMS)
    return write_policy_bundle(tmp_path / "v1", ItemKnn().fit(log, training_histories(log)), ITEMS)


def test_it_holds_plain_files_and_says_what_ranks(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(FILES)
    told = json.loads((folder / "bundle.json").read_text())
    assert (told["format"], told["ranker"]) == (2, "policy")
    assert ranker_name(folder) == "item_knn"
    bundle = load_bundle(folder)
    assert isinstance(bundle, PolicyBundle)
    assert bundle.info == load_bundle(folder).info
    assert bundle.info.candidates == 20


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
    with pytest.raises(UserError, match=r"no bundle at|publish (it|the bundle) again or roll back") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert ranker_name(folder) in ("", "item_knn")


def test_a_kind_that_is_not_known_is_refused(folder: Path) -> None:
    (folder / "policy.json").write_text('{"kind": "oracle", "options": {}}')
    with pytest.raises(UserError, match=r"'oracle'; it must be one of popularity.*publish the bundle again"):
        load_bundle(folder)


def test_arrays_that_do_not_fit_are_found_before_the_first_request(folder: Path) -> None:
    path = folder / "policy.safetensors"
    arrays = load_file(path)
    indices = arrays["similarity.indices"].copy()
    indices[0] = 10**6  # would read foreign memory
    for name, spoilt, said in (
        ("similarity.indices", indices, "damaged or incomplete"),
        ("popularity", np.full(ITEMS, np.nan, np.float32), "scores are not finite"),
        ("popularity", np.ones(ITEMS - 1, np.float32), "damaged or incomplete"),
    ):
        save_file(arrays | {name: spoilt}, path)
        with pytest.raises(UserError, match=said):
            load_bundle(folder)
    del arrays["popularity"]
    save_file(arrays, path)
    with pytest.raises(UserError, match="popularity"):
        load_bundle(folder)


def test_a_policy_of_another_catalogue_does_not_make_one(folder: Path, tmp_path: Path) -> None:
    log = memory_log([random_told(np.random.default_rng(1), 12, 5)], items=5)
    other = write_policy_bundle(tmp_path / "v2", ItemKnn().fit(log, training_histories(log)), 5)
    for name in ("policy.json", "policy.safetensors"):
        (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(UserError, match="items differ in number"):
        load_bundle(folder)


def test_the_registry_keeps_the_digest_of_what_was_learnt(folder: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    published = registry.resolve("metaq", registry.publish(folder, "metaq"))
    registry.verify(published)
    arrays = published / "policy.safetensors"
    arrays.chmod(0o644)
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(
        UserError, match=r"policy\.safetensors is damaged; publish the bundle again or roll back"
    ):
        registry.verify(published)
