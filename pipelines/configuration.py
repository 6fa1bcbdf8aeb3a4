"""From `--config` and `--set` to a checked RunConfig."""

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from recsys.config import RunConfig, read_toml, validate_config
from recsys.errors import UserError


def shipped_configs() -> dict[str, Path]:
    """Return the configs that come with the package, by name."""
    folder = Path(str(files("pipelines").joinpath("configs")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def resolve_config(config: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the run that a path or a shipped name describes, after overrides such as `pretrain.epochs=3`.

    Raises UserError, one line, for an unknown name, a file that is refused, or an override that is refused.
    """
    raw = read_toml(find_config(config))
    for override in overrides:
        put_override(raw, override)
    return validate_config(raw, config)


def find_config(config: str) -> Path:
    shipped = shipped_configs()
    if config in shipped:
        return shipped[config]
    path = Path(config)
    if path.suffix == ".toml" or path.exists():
        return path
    raise UserError(f"no config {config!r}; give the path of a .toml file or one of: {', '.join(shipped)}")


def put_override(raw: dict[str, object], text: str) -> None:
    """Put one override into plain values; text becomes the key's type when the whole is checked."""
    key, equals, value = text.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not last or not all(tables):
        raise UserError(f"--set {text!r} is not of the form section.key=value, such as pretrain.epochs=3")
    try:
        put_value(raw, key.strip(), _value(value.strip()))
    except UserError as error:
        raise UserError(f"--set {text!r}: {error}") from None


def put_value(raw: dict[str, object], key: str, value: object) -> None:
    """Put a value into plain values by its key; raises UserError if the key leads through what is no section."""
    *tables, last = key.split(".")
    table = raw
    for name in tables:
        below = table.setdefault(name, {})
        if not isinstance(below, dict):
            raise UserError(f"{name} is not a section")
        table = below
    table[last] = value


def _value(value: str) -> object:
    if value == "none":
        return None
    if value.startswith(("[", "{", '"')):
        try:
            return tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"the value is not TOML: {error}") from None
    return value
