"""Configs that ship and overrides from the command line."""

from pathlib import Path

import pytest

from pipelines.configuration import resolve_config, shipped_configs
from recsys.errors import UserError


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_config_loads_and_says_what_it_is(name: str) -> None:
    config = resolve_config(name)
    assert config.name == name
    assert config.publish.name == (
        "metaq" if name == "default" else name
    )  # no run takes over another's endpoint
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


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("pretrain.epoch=3", "smoke: unknown key pretrain.epoch; did you mean pretrain.epochs?"),
        ("prepare.log.formt=file", "smoke: unknown key prepare.log.formt; did you mean prepare.log.format?"),
        ("pretrian.epochs=3", "smoke: unknown key pretrian; did you mean pretrain?"),
        ("publish.colour=red", "smoke: unknown key publish.colour; [publish] takes: registry, name, alias"),
        (
            "pretrain.epochs=three",
            "smoke: pretrain.epochs is 'three', must be a whole number; "
            "set it under [pretrain] of the config or with --set pretrain.epochs=…",
        ),
        ("threads=0", "threads is '0', must be greater than 0; set it at the top of the config or with"),
        ("model.encoder=lstm", "model.encoder is 'lstm', must be 'recurrent' or 'attention'; set it under"),
        ("evaluate.shots=[0, 'x']", "evaluate.shots.1 is 'x', must be a whole number; set it under"),
        ("prepare.reward.base={click = 'x'}", "prepare.reward.base.click is 'x', must be a number"),
        ("prepare.split.test_from=soon", "'soon', must be a time such as"),
    ],
)
def test_a_refused_setting_says_what_is_allowed_and_where_to_set_it(override: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_config("smoke", ["seed=1", override])
    assert says in str(error.value)
    assert "seed=1" not in str(error.value)


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[prepare.log]\npath = 'log'\n")
    with pytest.raises(
        UserError, match=r"name is missing; set it at the top of the config or with --set name="
    ):
        resolve_config(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("shots", ["[]", "[0]", "[-1, 5]", "[0, 5, 5]", "[5, 3]"])
def test_shots_that_make_no_curve_are_refused(shots: str) -> None:
    with pytest.raises(UserError, match=r"evaluate\.shots is \[.*, must ascend .*write them as"):
        resolve_config("smoke", [f"evaluate.shots={shots}"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["state.max_events=9", "metatrain.max_support=5"],
            "state.max_events is 9, must be at least the largest of evaluate.shots (10)",
        ),
        (["metatrain.max_support=21"], "state.max_events is 20, must be at least metatrain.max_support (21)"),
        (["pretrain.discount=1"], "pretrain.discount is '1', must be less than 1"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_config("smoke", overrides)
    assert says in str(error.value)
