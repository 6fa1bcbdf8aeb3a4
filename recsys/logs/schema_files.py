"""The table schemas as JSON text, for readers that do not speak Python."""

import json
from typing import Final

import pyarrow as pa

from recsys.logs.schema import EVENTS, ITEMS, USERS

TABLES: Final = {"events": EVENTS, "items": ITEMS, "users": USERS}


def schema_text(table: str) -> str:
    """Return one table's schema: each column's name, type and whether it may be null, in order."""
    schema: pa.Schema = TABLES[table]
    columns = [{"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in schema]
    further = [] if table == "events" else ["numbers: numeric features", "strings: categories or text"]
    return json.dumps({"table": table, "columns": columns, "further_columns": further}, indent=2) + "\n"
