"""The log that comes with the project: files, datasheet and exported schemas agree with the code."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys.config import LogConfig, PrepareConfig, SplitConfig
from recsys.datasets.online_retail_rules import NON_PRODUCTS
from recsys.logs.prepare import prepare
from recsys.logs.prepared import Role, open_prepared
from recsys.logs.schema import EVENTS, ITEMS, USERS
from recsys.logs.schema_files import TABLES, schema_text

DATA = Path(__file__).parents[2] / "data"
LOG = DATA / "online-retail"


@pytest.mark.parametrize("table", TABLES)
def test_exported_schemas_equal_the_code(table):
    assert (DATA / "schemas" / f"{table}.json").read_text(encoding="utf-8") == schema_text(table)


def test_no_other_schema_lies_about():
    assert {path.stem for path in (DATA / "schemas").glob("*.json")} == set(TABLES)


@pytest.mark.parametrize(("name", "schema"), [("events", EVENTS), ("items", ITEMS), ("users", USERS)])
def test_bundled_tables_have_the_canonical_columns(name, schema):
    found = pq.read_schema(LOG / f"{name}.parquet")
    assert [found.field(column.name) for column in schema] == list(schema)


def test_the_datasheet_says_what_the_tables_hold():
    text = (LOG / "DATASHEET.md").read_text(encoding="utf-8")
    events = pq.read_table(LOG / "events.parquet")
    kinds = {
        row["values"]: row["counts"]
        for row in pc.value_counts(events["event_type"].combine_chunks()).to_pylist()
    }
    assert (
        f"{events.num_rows:,}: {kinds['purchase']:,} purchases, {kinds['cancellation']:,} cancellations"
        in text
    )
    assert f"| sessions (invoices) | {pc.count_distinct(events['session_id']).as_py():,} |" in text
    assert f"| items | {pq.read_metadata(LOG / 'items.parquet').num_rows:,}, with title and price |" in text
    assert f"| customers | {pq.read_metadata(LOG / 'users.parquet').num_rows:,}, with country" in text
    anonymous = events.filter(pc.is_null(events["user_id"]))
    sessions = pc.count_distinct(anonymous["session_id"]).as_py()
    assert f"| anonymous events | {anonymous.num_rows:,} in {sessions:,} sessions |" in text
    assert "CC BY 4.0" in text
    assert ", ".join(NON_PRODUCTS) in text


def test_the_bundled_log_is_small_and_free_of_what_is_no_product():
    assert sum(path.stat().st_size for path in LOG.glob("*.parquet")) < 6_000_000
    items = pq.read_table(LOG / "items.parquet")
    assert not pc.any(pc.is_in(items["item_id"], value_set=pc.cast(list(NON_PRODUCTS), "string"))).as_py()
    assert items["title"].null_count == 0


def test_the_bundled_log_prepares_with_thousands_of_warm_and_a_thousand_cold_users(tmp_path):
    config = PrepareConfig(log=LogConfig(path=LOG), split=SplitConfig(test_from="2011-09-01"))
    info = prepare(config, 7, tmp_path)
    prepared = open_prepared(tmp_path)
    assert (info.events, info.users, info.items, info.quarantined) == (525_921, 4_362, 3_812, {})
    assert {role.name: len(prepared.with_role(role)) for role in Role} == {
        "TRAIN": 4_424,
        "COLD_VALIDATION": 335,
        "COLD_TEST": 1_013,
    }
    assert json.loads((tmp_path / "prepared.json").read_text())["test_from"] == "2011-09-01T00:00:00+00:00"
