"""Spaces that ship, what a space refuses, and which steps its trials share."""

from pathlib import Path

import optuna
import pytest

from pipelines.configuration import resolve_config
from pipelines.tuning.space import load_space, shipped_spaces
from pipelines.tuning.trial import changed, untouched_steps
from pipelines.tuning.winner import base_of, write_winner
from recsys.errors import UserError

CONFIG_OF = {"smoke": "smoke"}  # the others are over the default config


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_every_shipped_space_says_what_it_is_and_holds_the_config_it_is_over(name: str) -> None:
    config = resolve_config(CONFIG_OF.get(name, "default"))
    space = load_space(name)
    start = space.start(config)
    assert changed(config, start) == config
    text = shipped_spaces()[name].read_text()
    assert "# What it is" in text
    assert f"recsys tune --config {config.name}" in text


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_whatever_a_shipped_space_draws_is_a_config(name: str) -> None:
    config, space = resolve_config(CONFIG_OF.get(name, "default")), load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        values = space.draw(study.ask())
        assert set(values) == set(space.axes)
        assert space.start(changed(config, values)) == values  # what it draws it also holds


def test_trials_share_the_steps_that_their_settings_cannot_change() -> None:
    config = resolve_config("default")
    assert untouched_steps(config, load_space("default")) == ["prepare"]
    assert untouched_steps(config, load_space("cheap")) == ["prepare", "pretrain"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no setting"),
        ("[pretrain]\nepochs = 3", "pretrain.epochs stands outside an axis"),
        ('[pretrain.epochs]\nkind = "whole"\nlow = 1\nhigh = 2', "pretrain.epochs"),
        ('[pretrain.epochs]\nkind = "int"\nlow = 3\nhigh = 2', "low is 3, must be at most high (2)"),
        ('[pretrain.epochs]\nkind = "int"\nlow = 1\nhigh = 4\nstep = 2', "multiple of step (2)"),
        (
            '[pretrain.epochs]\nkind = "int"\nlow = 1\nhigh = 4\nstep = 3\nlog = true',
            "must be 1 where log is true",
        ),
        ('[pretrain.learning_rate]\nkind = "float"\nlow = 0.0\nhigh = 1.0\nlog = true', "must be above 0"),
        ('[pretrain.learning_rate]\nkind = "float"\nlow = 0.0', "high"),
        ('[pretrain.learning_rate]\nkind = "choice"\nvalues = []', "values"),
        ('[study]\ntrials = 3\n[pretrain.epochs]\nkind = "int"\nlow = 1\nhigh = 2', "study.trials"),
        ("[pretrain", "not TOML"),
    ],
)
def test_a_bad_space_is_one_line_that_names_it(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_space(str(path))
    assert says in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[pretrain.epoch]\nkind = "int"\nlow = 1\nhigh = 9', "pretrain.epoch is no setting"),
        (
            '[pretrain.epochs]\nkind = "int"\nlow = 1\nhigh = 3',
            "pretrain.epochs is 6 in the config, must lie in",
        ),
        ('[pretrain.half_life_days]\nkind = "choice"\nvalues = [30.0]', "pretrain.half_life_days is None"),
    ],
)
def test_a_space_without_the_config_itself_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_space(str(path)).start(resolve_config("default"))
    assert says in str(error.value)


def test_a_winner_keeps_overrides_and_says_none_only_where_it_is_the_default(tmp_path: Path) -> None:
    overrides = ["prepare.log.max_bad_share=0.5", "pretrain.epochs=4", "prepare.reward.base={purchase = 2}"]
    config = resolve_config("default", overrides)
    base = base_of("default", overrides, config)
    values = {"pretrain.half_life_days": None, "pretrain.learning_rate": 3e-3}
    found = write_winner(tmp_path / "w.toml", config, base, values, "What it is      A test.")
    assert found == resolve_config(str(tmp_path / "w.toml"))
    assert found == config.model_copy(
        update={
            "name": "default-tuned",
            "pretrain": config.pretrain.model_copy(update={"learning_rate": 3e-3}),
        }
    )
    with pytest.raises(UserError, match=r"cannot say none for pretrain\.max_gradient_norm"):
        write_winner(tmp_path / "w.toml", config, base, {"pretrain.max_gradient_norm": None}, "")
