"""The mapping file of format "file": which column means what, in a few lines of TOML."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from recsys.datasets.parsing import TimeUnit
from recsys.errors import UserError
from recsys.frozen import Frozen, PositiveFloat


class EventColumns(Frozen):
    """Names of the log's columns; what is left out is null, or made up as docs/logs.md says."""

    item_id: str
    timestamp: str
    event_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    event_type: str | None = None
    value: str | None = None
    recommendation_id: str | None = None
    position: str | None = None
    propensity: str | None = None
    policy_version: str | None = None


class TimeStyle(Frozen):
    """How times are written: ISO 8601 unless a strptime format or a unit since 1970 is given."""

    format: str | None = None
    unit: TimeUnit | None = None


Separator = Annotated[str, Field(min_length=1, max_length=1)]


class SideTable(Frozen):
    """An item or user file; columns that are not named here are kept under their own names."""

    path: Path  # relative to the mapping file
    id: str
    title: str | None = None
    categories: str | None = None
    category_separator: str = "|"
    separator: Separator | None = None  # of its columns, in a CSV


class Mapping(Frozen):
    """One log, described."""

    columns: EventColumns
    separator: Separator | None = None  # of a CSV's columns; a tab in .tsv, else a comma
    event_type: str | None = None  # of every event, where no column says it
    event_types: dict[str, str] = Field(
        default_factory=dict
    )  # the log's name -> ours; others stay as they are
    time: TimeStyle = TimeStyle()
    session_gap_minutes: PositiveFloat | None = None
    items: SideTable | None = None
    users: SideTable | None = None

    @model_validator(mode="after")
    def _says_enough(self) -> "Mapping":
        if (self.columns.event_type is None) == (self.event_type is None):
            raise ValueError("give either columns.event_type or a constant event_type")
        if (self.columns.session_id is None) == (self.session_gap_minutes is None):
            raise ValueError("give either columns.session_id or session_gap_minutes")
        if self.columns.user_id is None and self.columns.session_id is None:
            raise ValueError("give columns.user_id, columns.session_id or both")
        if self.time.format is not None and self.time.unit is not None:
            raise ValueError("give time.format or time.unit, not both")
        return self


def load_mapping(path: Path) -> Mapping:
    """Read a mapping; raises UserError if the file is missing, is not TOML, or says too much or little."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no mapping at {path}; name yours in a copy of the config ([prepare.log] mapping), or with every command "
            "by --set prepare.log.mapping=FILE; docs/logs.md shows one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    try:
        return Mapping.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {where}: {message}; docs/logs.md shows a mapping") from None


def side_tables(path: Path) -> tuple[Path, ...]:
    """Return the item and user files that a mapping names."""
    mapping = load_mapping(path)
    return tuple(path.parent / table.path for table in (mapping.items, mapping.users) if table is not None)
