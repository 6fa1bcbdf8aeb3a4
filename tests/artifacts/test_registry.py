"""The registry: versions never change, aliases move whole, nothing outside its folder is touched."""

import json
import multiprocessing
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.artifacts.registry import CHECKSUMS, Registry
from recsys.errors import UserError

CHILDREN = multiprocessing.get_context("spawn")


def bundle(folder: Path, text: str = "weights") -> Path:
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(text)
    (folder / "parts" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> list[str]:
    return [registry.publish(bundle(tmp_path / text, text), "metaq") for text in ("one", "two", "three")]


def test_a_version_holds_what_was_published_read_only(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(bundle(tmp_path / "source"), "metaq")
    folder = registry.resolve("metaq", version)
    assert folder.name == version
    assert (folder / "model.safetensors").read_text() == "weights"
    assert (folder / "parts" / "config.json").read_text() == "{}"
    assert all(not path.stat().st_mode & 0o222 for path in folder.rglob("*") if path.is_file())
    registry.verify(folder)


def test_versions_are_numbered_in_order(registry: Registry, three: list[str]) -> None:
    assert registry.versions("metaq") == three == sorted(three)
    assert [version.split("-")[0] for version in three] == ["v0001", "v0002", "v0003"]


def test_the_same_content_is_the_same_version(registry: Registry, three: list[str], tmp_path: Path) -> None:
    os.utime(tmp_path / "two" / "model.safetensors", (1, 1))
    assert registry.publish(tmp_path / "two", "metaq") == three[1]
    assert registry.publish(registry.resolve("metaq", three[2]), "metaq") == three[2]
    assert registry.versions("metaq") == three


def test_order_survives_the_ten_thousandth_version(registry: Registry, tmp_path: Path) -> None:
    registry.publish(bundle(tmp_path / "a", "a"), "metaq", "v9999-00000000")
    following = registry.publish(bundle(tmp_path / "b", "b"), "metaq")
    assert following.startswith("v10000-")
    assert registry.versions("metaq")[-1] == following


def test_a_given_version_is_kept_and_never_overwritten(registry: Registry, tmp_path: Path) -> None:
    source = bundle(tmp_path / "source")
    assert registry.publish(source, "metaq", "2026.1") == "2026.1"
    assert registry.publish(source, "metaq", "2026.1") == "2026.1"
    with pytest.raises(UserError, match="exists with other content"):
        registry.publish(bundle(tmp_path / "other", "other"), "metaq", "2026.1")


def test_aliases_move_and_roll_back(registry: Registry, three: list[str]) -> None:
    for version in three:
        registry.set_alias("metaq", "champion", version)
    registry.set_alias("metaq", "challenger", three[0])
    assert registry.aliases("metaq") == {"challenger": three[0], "champion": three[2]}
    assert registry.resolve("metaq", "champion").name == three[2]
    assert registry.rollback("metaq", "champion") == three[1]
    assert registry.rollback("metaq", "champion") == three[0]
    with pytest.raises(UserError, match="never pointed elsewhere"):
        registry.rollback("metaq", "champion")
    assert registry.resolve("metaq", "champion").name == three[0]


def test_setting_an_alias_twice_is_one_move(registry: Registry, three: list[str]) -> None:
    for version in (three[0], three[1], three[1]):
        registry.set_alias("metaq", "champion", version)
    assert registry.rollback("metaq", "champion") == three[0]


@pytest.mark.parametrize("alias", ["v0001-00000000", "2026.1"])
def test_an_alias_cannot_be_taken_for_a_version(registry: Registry, tmp_path: Path, alias: str) -> None:
    version = registry.publish(bundle(tmp_path / "source"), "metaq", "2026.1")
    with pytest.raises(UserError, match="is a version"):
        registry.set_alias("metaq", alias, version)


def test_an_alias_points_to_versions_that_exist(registry: Registry, three: list[str]) -> None:
    with pytest.raises(UserError, match="there is: v0001"):
        registry.set_alias("metaq", "champion", "v0009-00000000")
    registry.set_alias("metaq", "champion", three[0])
    with pytest.raises(UserError, match="is an alias"):
        registry.set_alias("metaq", "challenger", "champion")


def test_what_is_unknown_is_refused_with_what_there_is(registry: Registry, three: list[str]) -> None:
    with pytest.raises(UserError, match=rf"no 'champion' of metaq .*{three[0]}"):
        registry.resolve("metaq", "champion")
    with pytest.raises(UserError, match=r"there is: nothing of this name yet; .* or give --name metaq"):
        registry.resolve("other", "champion")
    with pytest.raises(UserError, match="nothing is published yet"):
        Registry(registry.root / "elsewhere").resolve("metaq", "champion")


@pytest.mark.parametrize(
    ("damage", "says"),
    [("change", "is damaged"), ("delete", "is missing"), ("add", "was added"), ("sums", "readable")],
)
def test_damage_is_found_and_named(registry: Registry, three: list[str], damage: str, says: str) -> None:
    registry.set_alias("metaq", "champion", three[1])
    registry.set_alias("metaq", "champion", three[2])
    folder = registry.resolve("metaq", three[1])
    file = folder / "model.safetensors"
    match damage:
        case "change":
            file.chmod(0o644)
            file.write_text("two!")
        case "delete":
            file.unlink()
        case "add":
            (folder / "new").touch()
        case _:
            (folder / CHECKSUMS).chmod(0o644)
            (folder / CHECKSUMS).write_text("{")
    with pytest.raises(UserError, match=says):
        registry.verify(folder)
    with pytest.raises(UserError, match=says):
        registry.rollback("metaq", "champion")
    with pytest.raises(UserError, match=says):
        registry.set_alias("metaq", "challenger", three[1])
    assert registry.aliases("metaq") == {"champion": three[2]}


def test_damaged_content_is_not_taken_for_published(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    (registry.resolve("metaq", three[0]) / CHECKSUMS).unlink()
    assert registry.publish(tmp_path / "one", "metaq").startswith("v0004-")


def test_what_cannot_be_published_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        registry.publish(tmp_path / "nowhere", "metaq")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        registry.publish(tmp_path / "empty", "metaq")
    linked = bundle(tmp_path / "linked")
    (linked / "secret").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match="is a link"):
        registry.publish(linked, "metaq")
    assert registry.versions("metaq") == []


def test_leftovers_of_a_killed_publisher_are_cleared(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    bundle(registry.root / "metaq" / ".tmp-1", "half")
    registry.set_alias("metaq", "champion", three[0])
    (registry.root / "metaq" / "aliases" / ".tmp-champion.json-1").write_text("[")
    assert registry.aliases("metaq") == {"champion": three[0]}
    registry.publish(bundle(tmp_path / "four", "four"), "metaq")
    assert not list(registry.root.rglob(".tmp-*"))
    assert len(registry.versions("metaq")) == 4


PATHS = [
    "..",
    ".",
    "",
    "/etc",
    "a/b",
    "../x",
    "a\\b",
    ".hidden",
    "a\n",
    "a\0",
    "A",
    "é",
    "x" * 65,
    "-x",
    "%2e%2e",
]


@pytest.mark.parametrize("word", PATHS)
def test_no_word_reaches_outside(registry: Registry, three: list[str], tmp_path: Path, word: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    for act in (
        lambda: registry.publish(tmp_path / "one", word),
        lambda: registry.publish(tmp_path / "one", "metaq", word) if word else registry.versions(word),
        lambda: registry.resolve(word, "champion"),
        lambda: registry.resolve("metaq", word),
        lambda: registry.set_alias("metaq", word, three[0]),
        lambda: registry.set_alias("metaq", "champion", word),
        lambda: registry.rollback("metaq", word),
        lambda: registry.aliases(word),
        lambda: registry.versions(word),
    ):
        with pytest.raises(UserError, match="is refused"):
            act()
    assert sorted(tmp_path.rglob("*")) == before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.text(max_size=70))
def test_any_word_is_refused_or_stays_inside(registry: Registry, word: str) -> None:
    with pytest.raises(UserError) as refusal:
        registry.resolve(word, word)
    assert "\n" not in str(refusal.value)
    inside = registry.root / word
    if (
        all(letter.isalnum() and letter.isascii() and letter.islower() for letter in word)
        and 0 < len(word) <= 64
    ):
        assert inside.parent == registry.root


@pytest.mark.parametrize("content", ["", "[]", "{", "3", "[3]", '[{"at": ""}]'])
def test_a_damaged_alias_file_is_one_clear_error(registry: Registry, three: list[str], content: str) -> None:
    registry.set_alias("metaq", "champion", three[0])
    (registry.root / "metaq" / "aliases" / "champion.json").write_text(content)
    with pytest.raises(UserError, match=r"champion\.json is damaged"):
        registry.resolve("metaq", "champion")


def test_a_damaged_alias_hides_nothing_else_and_can_be_set_again(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    for alias in ("champion", "challenger"):
        registry.set_alias("metaq", alias, three[0])
    (registry.root / "metaq" / "aliases" / "champion.json").write_text("{")
    assert registry.aliases("metaq") == {"challenger": three[0]}
    assert registry.damaged_aliases("metaq") == ["champion"]
    assert registry.resolve("metaq", three[1]).name == three[1]
    assert registry.resolve("metaq", "challenger").name == three[0]
    with pytest.raises(UserError, match="is an alias"):
        registry.publish(bundle(tmp_path / "four", "four"), "metaq", "champion")
    registry.set_alias("metaq", "champion", three[2])
    assert registry.aliases("metaq") == {"challenger": three[0], "champion": three[2]}
    assert registry.damaged_aliases("metaq") == []


def test_an_alias_file_that_points_outside_is_refused(registry: Registry, three: list[str]) -> None:
    registry.set_alias("metaq", "champion", three[0])
    path = registry.root / "metaq" / "aliases" / "champion.json"
    path.write_text(json.dumps([{"version": "../../../etc", "at": ""}]))
    with pytest.raises(UserError, match="is refused"):
        registry.resolve("metaq", "champion")


def _publish_and_move(root: Path, sources: list[Path]) -> None:
    shelf = Registry(root)
    for source in sources:
        shelf.set_alias("metaq", "champion", shelf.publish(source, "metaq"))


def test_processes_that_publish_and_move_at_once_corrupt_nothing(registry: Registry, tmp_path: Path) -> None:
    sources = [bundle(tmp_path / f"source-{number}", str(number)) for number in range(6)]
    orders = [sources, sources[::-1], sources[3:] + sources[:3]]
    children = [CHILDREN.Process(target=_publish_and_move, args=(registry.root, order)) for order in orders]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):  # a reader never sees a part
        for version in registry.versions("metaq"):
            registry.verify(registry.resolve("metaq", version))
        registry.aliases("metaq")
    for child in children:
        child.join()
        assert child.exitcode == 0
    versions = registry.versions("metaq")
    assert len(versions) == 6
    assert [version.split("-")[0] for version in versions] == [f"v{number:04d}" for number in range(1, 7)]
    history = json.loads((registry.root / "metaq" / "aliases" / "champion.json").read_text())
    assert all(move["version"] in versions for move in history)
    assert all(a["version"] != b["version"] for a, b in pairwise(history))
    assert not list(registry.root.rglob(".tmp-*"))
