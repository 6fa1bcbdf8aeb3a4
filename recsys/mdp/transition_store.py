"""Where transitions lie: contiguous columns, memory-mapped from disk or in a ring in memory.

Layout of a store's folder:

    <column>.npy        one per column, (transition,) or (transition, feature)
    transitions.json    how many transitions and the type and width of each column; written last

Without the manifest there is no store, so one whose writing was cut short is refused. Appending leaves what the
manifest counts untouched until its replacement, so a reader sees the old store or the new one.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import numpy as np

from recsys.errors import UserError
from recsys.types import LongArray

MANIFEST = "transitions.json"
FORMAT = 1
Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
Columns = Mapping[str, Array]


@dataclass(frozen=True)
class ColumnSpec:
    """Type and width of one column."""

    dtype: str  # little-endian numpy code, such as "<f4"
    width: int = 0  # 0: (transition,), else (transition, width)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one transition's value."""
        return (self.width,) if self.width else ()

    @property
    def row_bytes(self) -> int:
        """Bytes of one transition's value."""
        return np.dtype(self.dtype).itemsize * max(1, self.width)


Schema = Mapping[str, ColumnSpec]


def vector_schema(features: int) -> Schema:
    """Return the columns of transitions whose states are feature vectors."""
    return {
        "state": ColumnSpec("<f4", features),
        "action": ColumnSpec("<i4"),
        "n_step_return": ColumnSpec("<f4"),
        "bootstrap": ColumnSpec("<f4"),
        "next_state": ColumnSpec("<f4", features),
        "next_action": ColumnSpec("<i4"),
    }


EVENT_SCHEMA: Schema = {  # transitions whose states are read from the log that the events lie in
    "event": ColumnSpec("<i8"),
    "action": ColumnSpec("<i4"),
    "n_step_return": ColumnSpec("<f4"),
    "bootstrap": ColumnSpec("<f4"),
    "steps": ColumnSpec("<i4"),
    "next_action": ColumnSpec("<i4"),
}


class TransitionStore(Protocol):
    """Columns of equal length; rows beyond `len` may be allotted and mean nothing yet."""

    @property
    def columns(self) -> Columns:
        """Arrays by name."""
        ...

    @property
    def capacity(self) -> int:
        """How many transitions there can ever be."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class MappedStore:
    """A finished store on disk, read-only; the system pages in what is sampled."""

    columns: Columns

    @property
    def capacity(self) -> int:
        """How many transitions there can be: those there are."""
        return len(self)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def open_store(folder: Path) -> MappedStore:
    """Map a store; raises UserError if it is not there, was not finished or is damaged."""
    schema, rows = _read_manifest(folder)
    columns: dict[str, Array] = {}
    for name, spec in schema.items():
        path = folder / f"{name}.npy"
        try:
            column = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} is missing or damaged ({error}); build the store again") from None
        if column.dtype != np.dtype(spec.dtype) or column.shape[1:] != spec.row_shape or len(column) < rows:
            raise UserError(
                f"{path} holds {column.dtype} of shape {column.shape}, must hold {rows} rows of {spec.dtype} "
                f"{spec.row_shape}; build the store again"
            )
        columns[name] = column[:rows]
    return MappedStore(columns)


class StoreWriter:
    """Appends transitions chunk by chunk; the manifest is replaced when the block is left without an error.

    `with StoreWriter(folder, schema) as writer:` begins a store or goes on with the one that is there.
    """

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.folder = folder
        self.schema = dict(schema)
        self.rows = 0
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "StoreWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / MANIFEST).exists():
            found, self.rows = _read_manifest(self.folder)
            if found != self.schema:
                raise UserError(
                    f"{self.folder} holds columns {_described(found)}, cannot take {_described(self.schema)}; "
                    "write to another folder"
                )
        for name, spec in self.schema.items():
            path = self.folder / f"{name}.npy"
            file = path.open("r+b" if self.rows else "w+b")
            header = self._write_header(file, spec, self.rows) if not self.rows else _header_bytes(file)
            file.seek(header + self.rows * spec.row_bytes)
            file.truncate()  # what an append that was cut short left behind
            self._files[name] = file
        return self

    def append(self, columns: Columns) -> None:
        """Write some transitions behind those there are; all columns must have the same length."""
        if set(columns) != set(self.schema):
            raise UserError(
                f"columns {sorted(columns)} do not fit the store's {sorted(self.schema)}; give just these"
            )
        count = len(next(iter(columns.values())))
        for name, spec in self.schema.items():
            values = np.ascontiguousarray(columns[name], dtype=spec.dtype)
            if values.shape != (count, *spec.row_shape):
                raise UserError(
                    f"column {name} has shape {values.shape}, must be {(count, *spec.row_shape)}; give every column a "
                    "row per transition"
                )
            self._files[name].write(values.data if count else b"")
        self.rows += count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, file in self._files.items():
            if kind is None:
                self._write_header(file, self.schema[name], self.rows)
                file.flush()
                os.fsync(file.fileno())
            file.close()
        if kind is None:
            self._write_manifest()

    def _write_header(self, file: BinaryIO, spec: ColumnSpec, rows: int) -> int:
        """Write the .npy header, whose length leaves room for any number of rows; return that length."""
        file.seek(0)
        described = {"descr": spec.dtype, "fortran_order": False, "shape": (rows, *spec.row_shape)}
        np.lib.format.write_array_header_1_0(file, described)
        return file.tell()

    def _write_manifest(self) -> None:
        described = {name: {"dtype": spec.dtype, "width": spec.width} for name, spec in self.schema.items()}
        text = json.dumps({"format": FORMAT, "transitions": self.rows, "columns": described}, indent=2)
        temporary = self.folder / f".tmp-{MANIFEST}"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / MANIFEST)


def _header_bytes(file: BinaryIO) -> int:
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()


def _described(schema: Schema) -> str:
    return ", ".join(f"{name} {spec.dtype}{list(spec.row_shape)}" for name, spec in schema.items())


def _read_manifest(folder: Path) -> tuple[dict[str, ColumnSpec], int]:
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise UserError(f"{folder} is of store format {raw['format']}, must be {FORMAT}; build it again")
        return {name: ColumnSpec(**spec) for name, spec in raw["columns"].items()}, int(raw["transitions"])
    except FileNotFoundError:
        state = (
            "holds an unfinished transition store"
            if any(folder.glob("*.npy"))
            else "holds no transition store"
        )
        raise UserError(f"{folder} {state}; build it again") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}); build the store again") from None


class RingStore:
    """The newest `capacity` transitions in memory; what is appended beyond it replaces the oldest."""

    def __init__(self, capacity: int, schema: Schema) -> None:
        if capacity < 1:
            raise UserError(f"the replay's capacity is {capacity}, must be 1 or more; raise it")
        self.capacity = capacity
        self.position = 0  # where the next transition goes
        self._stored = 0
        self.columns: dict[str, Array] = {
            name: np.zeros((capacity, *spec.row_shape), spec.dtype) for name, spec in schema.items()
        }

    def __len__(self) -> int:
        return self._stored

    def append(self, columns: Columns) -> LongArray:
        """Store transitions; return their places, of which only the last `capacity` are kept."""
        count = len(next(iter(columns.values())))
        kept = min(count, self.capacity)
        place = (self.position + np.arange(count - kept, count)) % self.capacity
        for name, held in self.columns.items():
            held[place] = columns[name][count - kept :]
        self.position = (self.position + count) % self.capacity
        self._stored = min(self.capacity, self._stored + count)
        return place

    def state(self) -> dict[str, Array]:
        """Return what `restore` needs to go on exactly: arrays by name."""
        held = {f"column.{name}": column[: len(self)].copy() for name, column in self.columns.items()}
        return {"position": np.array(self.position), **held}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a saved state; raises UserError if it does not fit."""
        stored, position = len(state[f"column.{next(iter(self.columns))}"]), int(state["position"])
        # a ring that has gone round goes on only in one of its size: a larger one would have rows never written
        if stored > self.capacity or (stored < self.capacity and position != stored):
            raise UserError(
                f"{stored} saved transitions do not fit a capacity of {self.capacity}; resume with the replay they "
                "were saved from"
            )
        for name, held in self.columns.items():
            held[:stored] = state[f"column.{name}"]
        self.position, self._stored = position, stored
