"""Attributes of users as small codes: 0 for unknown, one shared code for rare values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets.parsing import as_text, flat
from recsys.types import IntArray

_RARE_BELOW = 5  # users


def user_attributes(users: pa.Table) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], IntArray]:
    """Return the attributes' names, the value of each code from 1 on, and the codes, shape (user, attribute).

    Every string column counts; a column that is (almost) an id of its own, all values rare, is left out.
    """
    names: list[str] = []
    values: list[tuple[str, ...]] = []
    codes: list[IntArray] = []
    for name in users.column_names:
        column = flat(users[name])
        if name == c.USER_ID or not (
            pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        ):
            continue
        text = as_text(column)
        counts = pc.value_counts(text.drop_null())
        counted = sorted(
            (value.as_py(), count.as_py())
            for value, count in zip(counts.field("values"), counts.field("counts"), strict=True)
        )
        common = [value for value, count in counted if count >= _RARE_BELOW and value != c.OTHER]
        if not common:
            continue
        if len(common) < len(counted):
            common.append(c.OTHER)
        found = pc.index_in(text, value_set=pa.array(common, pa.string()))
        known = pc.fill_null(found, len(common) - 1)
        code = np.where(np.asarray(text.is_null()), 0, known.to_numpy() + 1)
        names.append(name)
        values.append(tuple(common))
        codes.append(code.astype(np.int32))
    table = np.stack(codes, axis=1) if codes else np.zeros((users.num_rows, 0), dtype=np.int32)
    return tuple(names), tuple(values), table


def attribute_codes(users: pa.Table, names: tuple[str, ...], values: tuple[tuple[str, ...], ...]) -> IntArray:
    """Return codes of known attributes and values, (user, attribute); a value that is not known is `other`, else 0."""
    codes = np.zeros((users.num_rows, len(names)), np.int32)
    for place, (name, known) in enumerate(zip(names, values, strict=True)):
        if name not in users.column_names:
            continue
        text = as_text(users[name])
        found = pc.index_in(text, value_set=pa.array(known, pa.string()))
        rare = known.index(c.OTHER) + 1 if c.OTHER in known else 0
        code = np.where(np.asarray(found.is_null()), rare, pc.fill_null(found, 0).to_numpy() + 1)
        codes[:, place] = np.where(np.asarray(text.is_null()), 0, code)
    return codes
