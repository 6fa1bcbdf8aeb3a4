"""Event tables laid out as schema.EVENTS says, before they are validated."""

from typing import Final

import pyarrow as pa

from recsys.logs.schema import EVENTS

NULLABLE: Final = pa.schema([field.with_nullable(True) for field in EVENTS])

# reasons of refusal that only an adapter can see, because it alone sees what the source said
BAD_TIME: Final = "unparsable time"
BAD_VALUE: Final = "unparsable value"
BAD_POSITION: Final = "unparsable position"
BAD_PROPENSITY: Final = "unparsable propensity"


def canonical(columns: dict[str, pa.Array], rows: int) -> pa.Table:
    """Return an event table in which every column that is not given is null."""
    return pa.table(
        {field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in NULLABLE},
        schema=NULLABLE,
    )


def constant(text: str, rows: int) -> pa.Array:
    """Return a column of one text."""
    return pa.repeat(pa.scalar(text, pa.string()), rows)
