"""What is not laid out as its format says is refused in one line that names what is there and what to do."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_log import as_strings

from recsys.config import LogConfig
from recsys.datasets.registry import open_log
from recsys.errors import UserError

EVENTS = {
    "event_id": ["e"],
    "session_id": ["s"],
    "item_id": ["i"],
    "event_type": ["click"],
    "timestamp": pa.array([0], pa.timestamp("s")),
}


def nothing(root):
    """Leave the folder empty."""


def parquet(name, **columns):
    """Return a writer of one Parquet file."""
    return lambda root: pq.write_table(pa.table(columns), root / name)


def text(*files):
    """Return a writer of text files."""

    def write(root):
        for name, content in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)

    return write


CASES = [
    ("tables", nothing, "has neither events.parquet nor events/"),
    (
        "tables",
        parquet("events.parquet", event_id=["e"]),
        "has no column session_id, timestamp, item_id, event_type",
    ),
    (
        "tables",
        parquet("events.parquet", **{**EVENTS, "timestamp": [1]}),
        "timestamp is int64, must be a timestamp",
    ),
    ("tables", parquet("events.parquet", **EVENTS, value=["x"]), "value is string, must be a number"),
    ("online-retail", nothing, "holds 0 tables"),
    ("online-retail", text(("a.csv", "x"), ("b.csv", "x")), r"holds 2 tables \(a.csv, b.csv\), must be one"),
    ("online-retail", text(("a.csv", "InvoiceNo,Price\n1,2\n")), "has no column StockCode"),
    ("online-retail", text(("a.csv", "")), "is empty"),
    ("online-retail", text(("a.xlsx", "no workbook")), "is not an Excel workbook"),
    ("complete-journey", nothing, "has no transactions.parquet or transactions.csv"),
    ("complete-journey", text(("transactions.csv", "a\n1\n")), "has no products.parquet"),
    (
        "complete-journey",
        text(("transactions.csv", "a\n"), ("products.csv", "a\n")),
        "has no column household_id",
    ),
    ("movielens", nothing, "has no u.data or ratings.dat or ratings.csv"),
    ("movielens", text(("u.data", "1\t2\t3\t4\n")), "has u.data but no u.item"),
    ("open-bandit", nothing, "holds no CSV, must hold item_context.csv and one log"),
    ("open-bandit", text(("random/men/men.csv", "x")), "give one campaign's folder"),
    ("open-bandit", text(("men.csv", "a,b\n"), ("item_context.csv", "a\n")), "has no column timestamp"),
    ("file", nothing, "needs a mapping"),
]


@pytest.mark.parametrize(("kind", "write", "message"), CASES)
def test_wrong_layouts_are_refused_in_one_line(tmp_path, kind, write, message):
    write(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        open_log(LogConfig(format=kind, path=tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind", ["tables", "online-retail", "complete-journey", "movielens", "open-bandit", "file"]
)
def test_a_path_that_is_not_there_is_named(tmp_path, kind):
    mapping = tmp_path / "mapping.toml"
    names = 'user_id = "u"\nitem_id = "i"\ntimestamp = "t"\n'
    mapping.write_text(f'event_type = "click"\nsession_gap_minutes = 1\n[columns]\n{names}')
    with pytest.raises(UserError, match="absent"):
        open_log(LogConfig(format=kind, path=tmp_path / "absent", mapping=mapping))


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_text("x")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"pip install 'metaq\[excel\]'"):
        open_log(LogConfig(format="online-retail", path=tmp_path))


def test_item_tables_without_a_key_or_with_one_twice_are_refused(tmp_path, samples):
    from recsys.config import PrepareConfig
    from recsys.logs.prepare import prepare

    log = samples["tables"](tmp_path, None).log
    for ids, message in (
        (["x", "x", "y"], "item_id x stands 2 times"),
        (["x", None], "1 rows .* have no item_id"),
    ):
        pq.write_table(as_strings(["item_id"], [(one,) for one in ids]), tmp_path / "items.parquet")
        with pytest.raises(UserError, match=message):
            prepare(PrepareConfig(log=log), 7, tmp_path / "out")


@pytest.mark.parametrize(("mark", "written"), [(";", '";"'), ("\t", r'"\\t"'), ("|", r'"\|"')])
def test_a_header_that_was_not_split_names_its_separator(tmp_path, mark, written):
    (tmp_path / "log.csv").write_text("u,i,t\n1,2,3\n".replace(",", mark))
    mapping = tmp_path / "mapping.toml"
    names = 'user_id = "u"\nitem_id = "i"\ntimestamp = "t"\n'
    mapping.write_text(f'event_type = "click"\nsession_gap_minutes = 1\n[columns]\n{names}')
    with pytest.raises(UserError, match=f"; write separator = {written} in the mapping$"):
        open_log(LogConfig(format="file", path=tmp_path / "log.csv", mapping=mapping))
    (tmp_path / "log.csv").write_text("u,i,t\n1,2,3\n")
    (tmp_path / "names.csv").write_text("i,title\n2,Ball\n".replace(",", mark))
    mapping.write_text(mapping.read_text() + '[items]\npath = "names.csv"\nid = "i"\n')
    log = open_log(LogConfig(format="file", path=tmp_path / "log.csv", mapping=mapping))
    with pytest.raises(UserError, match=rf"; write separator = {written} in the mapping, under \[items\]$"):
        log.items()
