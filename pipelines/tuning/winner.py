"""The winner as a config that `recsys run --config` takes: what was searched from, with the winner's settings."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w
from pydantic import BaseModel

from pipelines.configuration import find_config, put_value
from pipelines.tuning.space import Value, setting
from pipelines.tuning.trial import changed
from recsys.artifacts.files import replace_text
from recsys.config import RunConfig, read_toml, validate_config
from recsys.errors import UserError


def base_of(config: str, overrides: Sequence[str], resolved: RunConfig) -> dict[str, object]:
    """Return a config's file as plain values, with the overrides of the command line in it as the config has them."""
    raw = read_toml(find_config(config))
    for key in (override.partition("=")[0].strip() for override in overrides):
        section, _, name = key.rpartition(".")
        owner = setting(resolved, section) if section else resolved
        put_value(
            raw, key, owner.model_dump(mode="json")[name] if isinstance(owner, BaseModel) else owner[name]
        )
    return raw


def write_winner(
    path: Path, config: RunConfig, base: Mapping[str, object], values: Mapping[str, Value], header: str
) -> RunConfig:
    """Write the config whole or not at all, under a name of its own, and return it as `recsys run` will read it.

    Raises UserError if TOML cannot say it: a setting that is none where its default is a value.
    """
    raw = _copied(base)
    for key, value in {**values, "name": f"{config.name}-tuned"}.items():
        put_value(raw, key, value)
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    text = f"{comment}\n{tomli_w.dumps(_without_none(raw))}"
    read = validate_config(tomllib.loads(text), str(path))
    wanted = changed(config, {**values, "name": read.name})
    if read != wanted:
        lost = [key for key, value in values.items() if value is None]
        raise UserError(f"a TOML file cannot say none for {', '.join(lost)}; leave none out of their values")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
    return read


def _copied(table: Mapping[str, object]) -> dict[str, object]:
    return {name: _copied(below) if isinstance(below, dict) else below for name, below in table.items()}


def _without_none(table: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _without_none(below) if isinstance(below, dict) else below
        for name, below in table.items()
        if below is not None
    }
