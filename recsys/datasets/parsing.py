"""Columns of any type read as text, numbers and times; what cannot be read is marked, never guessed."""

from datetime import UTC
from typing import Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import UserError
from recsys.logs.schema import TIMESTAMP_TYPE
from recsys.types import BoolArray

TimeUnit = Literal["s", "ms", "us", "ns"]

_PER_SECOND: Final[dict[TimeUnit, int]] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

# a missing cell as pandas writes it into text; "Nan" may be somebody's name
_GAPS: Final = ("nan", "NaN")

_BEYOND_ARROW: Final = ("%f", "%z", "%Z")  # pyarrow's strptime knows neither fractions nor zones


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without dictionary encoding."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def as_text(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as trimmed strings; blank text is null, and a whole number has no decimals."""
    column = flat(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(
            pc.is_nan(column), pa.scalar(None, column.type), column
        )  # how pandas writes a gap
        whole = pc.equal(pc.floor(column), column)
        if pc.all(whole, min_count=0).as_py():
            column = pc.cast(column, pa.int64(), safe=False)
    if not pa.types.is_string(column.type):
        try:
            column = column.cast(pa.string())
        except pa.ArrowNotImplementedError:
            raise UserError(f"a column of {column.type} cannot be read as text; flatten it") from None
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def as_filled(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as text in which what pandas writes for a missing cell is null too."""
    text = as_text(column)
    gone = pc.is_in(text, value_set=pa.array(_GAPS, pa.string()))
    return pc.if_else(gone, pa.scalar(None, pa.string()), text)


def as_number(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, BoolArray]:
    """Return a column as float64 with nulls, NaN among them, and which rows held something that is no number."""
    column = flat(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        try:
            numbers = column.cast(pa.float64(), safe=False)
        except pa.ArrowNotImplementedError:
            return pa.nulls(len(column), pa.float64()), np.asarray(column.is_valid())
        return _without_nan(numbers), np.zeros(len(column), dtype=np.bool_)
    text = as_filled(column)
    try:
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        # only a batch with an unreadable value takes the slower road
        coerced = pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = pa.array(coerced, mask=np.isnan(coerced))
    return _without_nan(numbers), _lost(text, numbers)


def _without_nan(numbers: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)


def as_position(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, BoolArray]:
    """Return a column as int32 with nulls, and which rows held something that is no whole number."""
    numbers, bad = as_number(column)
    values = numbers.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = (np.abs(values) < 2.0**31) & (np.floor(values) == values)
    positions = pa.array(np.where(whole, values, 0).astype(np.int32), mask=~whole)
    return positions, bad | (np.asarray(numbers.is_valid()) & ~whole)


def as_time(
    column: pa.Array | pa.ChunkedArray, pattern: str | None = None, unit: TimeUnit | None = None
) -> tuple[pa.Array, BoolArray]:
    """Return a column as UTC times with nulls, and which rows held something that is no time.

    Text is read by `pattern` (as in strptime), else as ISO 8601, or as a number where a unit is given;
    numbers count `unit` since 1970. A time without a zone is taken as UTC.
    """
    column = flat(column)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(TIMESTAMP_TYPE, safe=False), np.zeros(len(column), dtype=np.bool_)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if unit is not None or not is_text:
        return _from_numbers(column, unit or "s")
    text = as_text(column)
    if pattern is not None and any(mark in pattern for mark in _BEYOND_ARROW):
        parsed = pd.to_datetime(text.to_pandas(), format=pattern, errors="coerce", utc=True)
        times = pa.Array.from_pandas(parsed).cast(TIMESTAMP_TYPE, safe=False)
        return times, _lost(text, times)
    if pattern is not None:
        times = pc.strptime(text, format=pattern, unit="us", error_is_null=True).cast(TIMESTAMP_TYPE)
        return times, _lost(text, times)
    try:
        times = _iso(text)
    except pa.ArrowInvalid:
        parsed = pd.to_datetime(text.to_pandas(), format="ISO8601", errors="coerce", utc=True)
        times = pa.Array.from_pandas(parsed).cast(TIMESTAMP_TYPE, safe=False)
    return times, _lost(text, times)


def _iso(text: pa.Array) -> pa.Array:
    try:
        return text.cast(pa.timestamp("us")).cast(TIMESTAMP_TYPE)
    except pa.ArrowInvalid:
        return text.cast(TIMESTAMP_TYPE)  # with a zone


def _from_numbers(column: pa.Array, unit: TimeUnit) -> tuple[pa.Array, BoolArray]:
    numbers, bad = as_number(column)
    values = numbers.to_numpy(zero_copy_only=False)
    scaled = values * (1_000_000 / _PER_SECOND[unit])
    with np.errstate(invalid="ignore"):
        readable = np.abs(scaled) < 2.0**62
    whole = np.where(readable, scaled, 0.0).round().astype(np.int64)
    times = pa.array(whole, mask=~readable).cast(pa.int64()).cast(pa.timestamp("us")).cast(TIMESTAMP_TYPE)
    present = np.asarray(pc.is_valid(numbers))
    return times, bad | (present & ~readable)


def _lost(before: pa.Array, after: pa.Array) -> BoolArray:
    """Return which rows had something before and have nothing after."""
    lost: BoolArray = np.asarray(pc.and_(pc.is_valid(before), pc.is_null(after)))
    return lost


def utc_text(seconds: int) -> str:
    """Return seconds since 1970 as ISO 8601."""
    return pd.Timestamp(seconds, unit="s", tz=UTC).isoformat()
