"""What a search may change: settings by their key in the config, each with a kind and bounds, from TOML.

    [pretrain.learning_rate]
    kind = "float"
    low = 5e-4
    high = 8e-3
    log = true

A table `[study]` beside them holds the search's own settings. In a choice, "none" is the value none.
"""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeGuard

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.frozen import Frozen, Positive

Value = float | int | str | bool | None
STUDY = "study"  # the table of a space that names no setting


class Suggests(Protocol):
    """The part of an Optuna trial that draws."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Draw a number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Draw a whole number."""

    def suggest_categorical(self, name: str, choices: tuple[Value, ...]) -> Value:
        """Draw one of some values."""


class FloatAxis(Frozen):
    """Numbers between two bounds, ends included; drawn evenly in their logarithm if `log`."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "FloatAxis":
        _check_bounds(self.low, self.high, self.log)
        return self

    def draw(self, trial: Suggests, name: str) -> Value:
        """Return the trial's value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def holds(self, value: Value) -> bool:
        """Say whether a value could be drawn."""
        return _is_number(value) and self.low <= value <= self.high

    def ends(self) -> tuple[Value, ...]:
        """Return some values that differ."""
        return (self.low, self.high)


class IntAxis(Frozen):
    """Whole numbers from `low` in steps, ends included; drawn evenly in their logarithm if `log`."""

    kind: Literal["int"]
    low: int
    high: int
    step: Positive = 1
    log: bool = False

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "IntAxis":
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError(f"step is {self.step}, must be 1 where log is true; leave one of them out")
        if (self.high - self.low) % self.step:
            raise ValueError(
                f"high is {self.high}, must be low ({self.low}) and a multiple of step ({self.step})"
            )
        return self

    def draw(self, trial: Suggests, name: str) -> Value:
        """Return the trial's value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def holds(self, value: Value) -> bool:
        """Say whether a value could be drawn."""
        if not _is_number(value):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def ends(self) -> tuple[Value, ...]:
        """Return some values that differ."""
        return (self.low, self.high)


class ChoiceAxis(Frozen):
    """One of some values."""

    kind: Literal["choice"]
    values: Annotated[tuple[float | int | str | bool, ...], Field(min_length=1)]

    def choices(self) -> tuple[Value, ...]:
        """Return the values as a config has them."""
        return tuple(None if value == "none" else value for value in self.values)

    def draw(self, trial: Suggests, name: str) -> Value:
        """Return the trial's value."""
        return trial.suggest_categorical(name, self.choices())

    def holds(self, value: Value) -> bool:
        """Say whether a value could be drawn."""
        return any(value == choice and (value is None) == (choice is None) for choice in self.choices())

    def ends(self) -> tuple[Value, ...]:
        """Return some values that differ."""
        return self.choices()


Axis = FloatAxis | IntAxis | ChoiceAxis
_AXIS: TypeAdapter[Axis] = TypeAdapter(Annotated[Axis, Field(discriminator="kind")])


class StudyConfig(Frozen):
    """How a search goes about it: TPE after some random trials, and the median rule for giving up."""

    random_trials: Positive = 8  # the config as it is among them
    prune: bool = True  # give up what is below the median of earlier trials at the same epoch
    prune_after_trials: Positive = 4
    prune_after_epochs: Annotated[int, Field(ge=0)] = 1  # of each stage that are never judged


class Space(Frozen):
    """The settings that are searched, by key such as `pretrain.learning_rate`, and how."""

    axes: dict[str, Axis]
    study: StudyConfig = StudyConfig()

    def draw(self, trial: Suggests) -> dict[str, Value]:
        """Return a value for every setting."""
        return {key: axis.draw(trial, key) for key, axis in self.axes.items()}

    def start(self, config: RunConfig) -> dict[str, Value]:
        """Return what the config itself has for every setting; raises UserError if the space leaves it out."""
        found = {}
        for key, axis in self.axes.items():
            value = setting(config, key)
            if not axis.holds(value):
                shown = axis.model_dump(exclude={"kind"}, exclude_defaults=True)
                raise UserError(
                    f"{key} is {value!r} in the config, must lie in its space {shown}: the config as it is is what a "
                    "search starts from; widen the space or --set the setting"
                )
            found[key] = value
        return found


def setting(config: BaseModel, key: str) -> Any:
    """Return one setting by its key; raises UserError if the config has none of that name."""
    value: Any = config
    for name in key.split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, BaseModel) and name in type(value).model_fields:
            value = getattr(value, name)
        else:
            raise UserError(
                f"{key} is no setting of a config; the space takes keys such as pretrain.learning_rate"
            )
    return value


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that come with the package, by name."""
    folder = Path(str(files("pipelines").joinpath("spaces")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_space(name: str) -> Space:
    """Read a space by path or shipped name; raises UserError, one line, at what is refused."""
    shipped = shipped_spaces()
    path = shipped.get(name, Path(name))
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"no space {name!r} ({error.strerror}); give the path of a .toml file or one of: {', '.join(shipped)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    study = _checked(StudyConfig.model_validate, raw.pop(STUDY, {}), path, STUDY)
    axes = {key: _checked(_AXIS.validate_python, table, path, key) for key, table in _leaves(raw, path, "")}
    if not axes:
        raise UserError(
            f"{path} names no setting; add a table such as [pretrain.learning_rate] with its kind"
        )
    return Space(axes=axes, study=study)


def _leaves(table: Mapping[str, Any], path: Path, above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, below in table.items():
        key = f"{above}{name}"
        if not isinstance(below, dict):
            raise UserError(f"{path}: {key} stands outside an axis; write [{key}] with a kind and bounds")
        if isinstance(below.get("kind"), str):
            yield key, below
        else:
            yield from _leaves(below, path, f"{key}.")


def _checked(check: Any, raw: object, path: Path, key: str) -> Any:
    try:
        return check(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in (key, *first["loc"]) if part not in ("float", "int", "choice"))
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {where}: {said}; it was given {first['input']!r}") from None


def _check_bounds(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low is {low}, must be at most high ({high})")
    if log and low <= 0:
        raise ValueError(f"low is {low}, must be above 0 where log is true")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
