"""What each format means, on small logs worked out by hand."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import LogConfig
from recsys.datasets.registry import open_log
from recsys.logs.export import export_tables


def events(log: LogConfig, tmp_path) -> dict[str, dict[str, object]]:
    """Return the sound events of a log by their ids."""
    out = tmp_path / "exported"
    export_tables(log, out)
    adapter = open_log(LogConfig(path=out))
    rows = pa.concat_tables(batch.events for batch in adapter.batches()).to_pylist()
    return {row["event_id"]: row for row in rows}


@pytest.mark.parametrize("kind", ["parquet", "csv", "xlsx"])
def test_invoices_become_sessions_of_merged_lines_with_revenue(tmp_path, samples, kind):
    log = samples[f"online-retail-{kind}"](tmp_path, None).log
    rows = events(log, tmp_path)
    assert {(name, row["user_id"], row["event_type"], row["value"]) for name, row in rows.items()} == {
        ("536365-85123A", "17850", "purchase", 25.3),  # 6 · 2.55 + 4 · 2.50
        ("536365-71053", "17850", "purchase", 6.78),
        ("536366-71053", None, "purchase", 3.0),
        ("536367-71053", "13047", "purchase", 3.39),
        ("C536368-71053", "13047", "cancellation", -3.39),
    }
    assert rows["536365-71053"]["session_id"] == "536365"
    assert rows["536365-71053"]["timestamp"].isoformat() == "2010-12-01T08:26:00+00:00"


def test_items_carry_their_most_frequent_title_and_median_price(tmp_path, samples):
    adapter = open_log(samples["online-retail-csv"](tmp_path, None).log)
    # prices of 71053 that a rule leaves: 3.00 once, 3.39 five times
    assert adapter.items().to_pylist() == [
        {"item_id": "71053", "title": "METAL LANTERN", "price": 3.39},
        {"item_id": "85123A", "title": "WHITE HEART", "price": 2.5},
    ]
    assert {row["user_id"]: row["country"] for row in adapter.users().to_pylist()} == {
        "17850": "United Kingdom",
        "13047": "France",
    }


def test_products_have_department_and_category(tmp_path, samples):
    adapter = open_log(samples["complete-journey-csv"](tmp_path, None).log)
    items = {row["item_id"]: row for row in adapter.items().to_pylist()}
    assert items["100"]["categories"] == ["GROCERY", "FRZN ICE"]
    assert items["300"]["categories"] == ["MISC"]
    assert items["100"]["title"] == "ICE - CRUSHED"


@pytest.mark.parametrize(
    ("layout", "title", "genres"),
    [("100K", "Élan", ["Comedy"]), ("1M", "Élan: Two", ["Comedy"]), ("latest", "Élan, Two", ["Comedy"])],
)
def test_movies_have_titles_years_and_genres(tmp_path, samples, layout, title, genres):
    adapter = open_log(samples[f"movielens-{layout}"](tmp_path, None).log)
    first, second, third = adapter.items().to_pylist()
    assert first == {"item_id": "10", "title": title, "categories": genres, "year": 1995.0}
    assert second["categories"] in (["Drama"], ["Drama", "War"])
    assert third["year"] is None
    assert not third["categories"]


def test_movie_users_have_groups_of_ages(tmp_path, samples):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    users = open_log(samples["movielens-100K"](old, None).log).users().to_pylist()
    assert users[0] == {
        "user_id": "1",
        "age": "20s",
        "gender": "M",
        "occupation": "technician",
        "zip_area": "8",
    }
    users = open_log(samples["movielens-1M"](new, None).log).users().to_pylist()
    assert users[1] == {"user_id": "2", "age": "50", "gender": "F", "occupation": "0", "zip_area": "9"}


def test_impressions_carry_propensity_and_are_followed_by_their_click(tmp_path, samples):
    rows = events(samples["open-bandit"](tmp_path, None).log, tmp_path)
    shown, clicked = rows["random-men-1-impression"], rows["random-men-1-click"]
    assert (shown["propensity"], shown["position"], shown["policy_version"]) == (0.25, 2, "random")
    assert (clicked["propensity"], clicked["position"]) == (None, 2)
    assert shown["recommendation_id"] == clicked["recommendation_id"] == "random-men-1"
    assert shown["timestamp"] < clicked["timestamp"]
    assert sum(row["event_type"] == "click" for row in rows.values()) == 1


def test_a_mapping_names_types_sessions_and_items(tmp_path, samples):
    rows = events(samples["file-csv"](tmp_path, None).log, tmp_path)
    assert sorted(
        (row["user_id"], row["session_id"], row["event_type"], row["value"]) for row in rows.values()
    ) == [
        ("ann", "ann@1577836800", "click", None),
        ("ann", "ann@1577836800", "purchase", 3.5),
        ("ann", "ann@1577923200", "click", None),
        ("bob", "bob@1577836800", "click", None),
        ("bob", "bob@1577836800", "wave", None),  # an export keeps every type
    ]
    items = {
        row["item_id"]: row for row in open_log(samples["file-csv"](tmp_path, None).log).items().to_pylist()
    }
    assert items["x"] == {"item_id": "x", "weight": 1.5, "title": "Red ball", "categories": ["toys", "round"]}
    assert items["z"]["categories"] is None


MAPPING = """
event_type = "click"
session_gap_minutes = 30
columns = { user_id = "who", item_id = "what", timestamp = "when", value = "paid" }
"""
GAPS = [
    {"who": "ann", "what": "x", "when": "2020-01-01", "paid": float("nan")},
    {"who": "nan", "what": "x", "when": "2020-01-01", "paid": 1.0},
    {"who": "bob", "what": "NaN", "when": "2020-01-01", "paid": 1.0},
    {"who": "Nan", "what": "y", "when": "2020-01-01", "paid": 2.0},
]


def write_gaps(kind: str, tmp_path) -> None:
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(GAPS), tmp_path / "log.parquet")
    elif kind == "jsonl":  # as json writes a NaN, which is no JSON
        (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in GAPS))
    else:
        lines = [",".join(GAPS[0]), *(",".join(map(str, row.values())) for row in GAPS)]
        (tmp_path / "log.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_nan_is_a_missing_value_and_no_id(tmp_path, kind):
    write_gaps(kind, tmp_path)
    (tmp_path / "mapping.toml").write_text(MAPPING)
    log = LogConfig(
        format="file", path=tmp_path / f"log.{kind}", mapping=tmp_path / "mapping.toml", max_bad_share=0.5
    )
    info = export_tables(log, tmp_path / "exported")
    assert info.quarantined == {"missing user id": 1, "missing item id": 1}
    rows = pq.read_table(tmp_path / "exported" / "events.parquet").to_pylist()
    assert {(row["user_id"], row["value"]) for row in rows} == {("ann", None), ("Nan", 2.0)}


@pytest.mark.parametrize(
    ("name", "mark", "said"),
    [("log.csv", ";", 'separator = ";"\n'), ("log.csv", "\t", 'separator = "\\t"\n'), ("log.tsv", "\t", "")],
)
def test_columns_are_separated_as_the_mapping_or_the_ending_says(tmp_path, name, mark, said):
    (tmp_path / name).write_text("who,what,when,paid\nann,x,2020-01-01,1.5\n".replace(",", mark))
    (tmp_path / "names.csv").write_text("what;title\nx;Red ball\n")
    side = '[items]\npath = "names.csv"\nid = "what"\ntitle = "title"\nseparator = ";"\n'
    (tmp_path / "mapping.toml").write_text(said + MAPPING + side)
    log = LogConfig(format="file", path=tmp_path / name, mapping=tmp_path / "mapping.toml")
    [row] = events(log, tmp_path).values()
    assert (row["user_id"], row["item_id"], row["value"]) == ("ann", "x", 1.5)
    assert open_log(log).items().to_pylist() == [{"item_id": "x", "title": "Red ball"}]
