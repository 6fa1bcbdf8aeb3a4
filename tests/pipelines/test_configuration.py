"""Configs that ship and overrides from the command line."""

from pathlib import Path

import pytest

from pipelines.configuration import resolve_config, shipped_configs
from recsys.errors import UserError


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_config_loads_and_says_what_it_is(name: str) -> None:
    config = resolve_config(name)
    assert config.name == name
    header = shipped_configs()[name].read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in header)
    for part in ("What it is", "Before it", "Launch", "How long"):
        assert any(line.startswith(f"# {part}") for line in header), part
    assert f"--config {name}" in shipped_configs()[name].read_text()


def test_what_make_run_and_the_tests_use_ships() -> None:
    assert {"default", "smoke"} <= set(shipped_configs())


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("pretrain.epochs=3", "pretrain", "epochs", 3),
        ("pretrain.learning_rate=1e-4", "pretrain", "learning_rate", 1e-4),
        ("model.encoder = attention", "model", "encoder", "attention"),
        ("evaluate.shots=[0, 5]", "evaluate", "shots", (0, 5)),
        ("publish.registry=/srv/a=b", "publish", "registry", Path("/srv/a=b")),
        ("publish.name=2026", "publish", "name", "2026"),
    ],
)
def test_overrides_take_the_type_of_their_key(override: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(resolve_config("smoke", [override]), section), key) == value


def test_deep_and_top_level_overrides() -> None:
    config = resolve_config(
        "smoke", ["name=other", "prepare.split.test_from=2011-10-01", "prepare.reward.base={purchase = 2}"]
    )
    assert config.name == "other"
    assert config.prepare.split.test_from is not None
    assert config.prepare.split.test_from.isoformat().startswith("2011-10-01")
    assert config.prepare.reward.base == {"purchase": 2.0}
    assert resolve_config("smoke", ["prepare.split.test_from=none"]).prepare.split.test_from is None


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("pretrain.epochs", "section.key=value"),
        ("=3", "section.key=value"),
        ("pretrain..epochs=3", "section.key=value"),
        ("pretrain.epochs=three", "pretrain.epochs"),
        ("pretrain.epochs=0", "pretrain.epochs"),
        ("pretrain.epoch=3", "pretrain.epoch"),
        ("name.first=x", "not a section"),
        ("evaluate.shots=[0,", "not TOML"),
    ],
)
def test_a_bad_override_is_one_line_that_names_it(override: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_config("smoke", [override])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_config_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"default, .*smoke"):
        resolve_config("smok")


@pytest.mark.parametrize("content", [None, b"name = ", b"\xff\xfe", b"name = 3\n"])
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        resolve_config(str(path))
    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_not_a_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no config at"):
        resolve_config(str(tmp_path))
