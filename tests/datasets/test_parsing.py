"""Cells read as text, numbers and times; what cannot be read is marked."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from recsys.datasets.parsing import as_filled, as_number, as_position, as_text, as_time
from recsys.errors import UserError

NEW_YEAR = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([" a ", "", "  ", None]), ["a", None, None, None]),
        (pa.array([17850, None]), ["17850", None]),
        (pa.array([17850.0, None, float("nan")]), ["17850", None, None]),
        (pa.array([1.5]), ["1.5"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array(["x"], pa.large_string()), ["x"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_any_column_is_text_with_blanks_as_null(column, expected):
    assert as_text(column).to_pylist() == expected


def test_nested_columns_are_refused_in_one_line():
    with pytest.raises(UserError, match="struct<a: int64> cannot be read as text; flatten it"):
        as_text(pa.array([{"a": 1}]))


def test_unreadable_numbers_are_marked_and_missing_ones_are_not():
    numbers, bad = as_number(pa.array(["1.5", None, "", "one", " 2 ", "-3e2"]))
    assert numbers.to_pylist() == [1.5, None, None, None, 2.0, -300.0]
    assert bad.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("last", ["one", "1"])
def test_a_nan_is_a_missing_number_also_beside_an_unreadable_cell(last):
    numbers, bad = as_number(pa.array(["NaN", "nan", "inf", last]))
    assert numbers.to_pylist()[:3] == [None, None, float("inf")]
    assert bad.tolist() == [False, False, False, last == "one"]
    numbers, bad = as_number(pa.array([float("nan"), float("inf"), None, 2.0]))
    assert numbers.to_pylist() == [None, float("inf"), None, 2.0]
    assert not bad.any()


def test_what_pandas_writes_for_a_missing_id_is_none():
    assert as_filled(pa.array(["a", "nan", " NaN ", "Nan", "", None])).to_pylist() == [
        "a", None, None, "Nan", None, None,
    ]  # fmt: skip


def test_columns_that_are_no_numbers_are_marked_everywhere_but_where_empty():
    _, bad = as_number(pa.array([[1], None]))
    assert bad.tolist() == [True, False]


def test_positions_are_whole_numbers():
    positions, bad = as_position(pa.array(["0", "1.5", "x", None, "3e9"]))
    assert positions.to_pylist() == [0, None, None, None, None]
    assert bad.tolist() == [False, True, True, False, True]


@pytest.mark.parametrize(
    ("column", "pattern", "unit"),
    [
        (pa.array(["2020-01-01"]), None, None),
        (pa.array(["2020-01-01 00:00:00"]), None, None),
        (pa.array(["2020-01-01T00:00:00Z"]), None, None),
        (pa.array(["2020-01-01T02:00:00+02:00"]), None, None),
        (pa.array(["01/01/2020 0:00"]), "%m/%d/%Y %H:%M", None),
        (pa.array(["01/01/2020 00:00:00.000 +0000"]), "%d/%m/%Y %H:%M:%S.%f %z", None),
        (pa.array(["1577836800"]), None, "s"),
        (pa.array([1577836800]), None, "s"),
        (pa.array([1577836800000]), None, "ms"),
        (pa.array([1577836800.0]), None, "s"),
        (pa.array([1577836800000000000]), None, "ns"),
        (pa.array([datetime(2020, 1, 1)]), None, None),
        (pa.array([datetime(2020, 1, 1).date()]), None, None),
    ],
)
def test_times_are_read_in_every_way_they_are_written(column, pattern, unit):
    times, bad = as_time(column, pattern, unit)
    assert times.to_pylist() == [NEW_YEAR]
    assert not bad.any()


def test_unreadable_times_are_marked_among_readable_ones():
    column = pa.array(["2020-01-01", "2020-13-45", "soon", None, "2020-01-01T00:00:00Z"])
    times, bad = as_time(column)
    assert times.to_pylist() == [NEW_YEAR, None, None, None, NEW_YEAR]
    assert bad.tolist() == [False, True, True, False, False]


def test_numbers_that_are_no_times_are_marked():
    times, bad = as_time(pa.array(["1577836800", "1e300", "x", None]), unit="s")
    assert times.to_pylist() == [NEW_YEAR, None, None, None]
    assert bad.tolist() == [False, True, True, False]
