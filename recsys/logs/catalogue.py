"""The item and user tables of a prepared log: checked, in canonical columns, one row per index."""

import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.datasets.parsing import as_text, flat
from recsys.errors import UserError
from recsys.logs.schema import ITEMS, USERS


def checked(table: pa.Table, key: str, schema: pa.Schema, source: str) -> pa.Table:
    """Return a side table sorted by its key, with the schema's columns first and further ones by name.

    Raises UserError if a key is missing or twice there, or a column of the schema has another type.
    """
    ids = as_text(table[key])
    if ids.null_count:
        raise UserError(
            f"{source}: {ids.null_count} rows of the table keyed by {key} have no {key}; fill it in"
        )
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        example = twice.field("values")[0].as_py()
        raise UserError(
            f"{source}: {key} {example} stands {twice.field('counts')[0].as_py()} times; keep one row of it"
        )
    table = table.set_column(table.column_names.index(key), key, ids).replace_schema_metadata(None)
    arrays: dict[str, pa.Array] = {}
    for field in schema:
        if field.name not in table.column_names:
            arrays[field.name] = pa.nulls(table.num_rows, field.type)
            continue
        column = flat(table[field.name])
        try:
            arrays[field.name] = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise UserError(
                f"{source}: column {field.name} is {column.type}, must be {field.type}; convert it"
            ) from None
    for name in sorted(set(table.column_names) - set(schema.names)):
        column = flat(table[name])
        arrays[name] = column.cast(pa.string()) if pa.types.is_large_string(column.type) else column
    further = [pa.field(name, arrays[name].type) for name in list(arrays)[len(schema) :]]
    return pa.table(arrays, schema=pa.schema([*schema, *further])).sort_by(key).combine_chunks()


def item_table(table: pa.Table | None, source: str) -> pa.Table | None:
    """Return the canonical item table, if the log has one."""
    return None if table is None else checked(table, c.ITEM_ID, ITEMS, source)


def named_items(ids: pa.Array) -> pa.Table:
    """Return the item table of a log that only names its items."""
    nothing = {field.name: pa.nulls(len(ids), field.type) for field in ITEMS}
    return pa.table({**nothing, c.ITEM_ID: ids}, schema=ITEMS)


def user_table(table: pa.Table | None, seen: pa.Array, source: str) -> pa.Table:
    """Return the canonical user table: users with events in the order given, then the others by id."""
    if table is None:
        return pa.table({c.USER_ID: seen}, schema=USERS)
    known = checked(table, c.USER_ID, USERS, source)
    others = known.filter(pc.invert(pc.is_in(known[c.USER_ID], value_set=seen)))
    ids = pa.concat_arrays([seen, flat(others[c.USER_ID])])
    row = pc.index_in(ids, value_set=flat(known[c.USER_ID]))
    columns = {name: ids if name == c.USER_ID else known[name].take(row) for name in known.column_names}
    return pa.table(columns, schema=known.schema).combine_chunks()
