"""`import recsys` costs nothing; what it offers reads what the project writes."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys
from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from tests.factories import write_tiny_bundle

ROOT = Path(__file__).parents[2]
LOG = ROOT / "data" / "online-retail"


def test_importing_the_library_loads_nothing_heavy() -> None:
    heavy = {"pandas", "torch", "pyarrow", "matplotlib", "faiss", "sklearn", "scipy"}
    program = f"import sys, recsys, recsys.loading; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_reading_a_log_does_not_load_torch() -> None:
    program = f"import sys, recsys; recsys.load_users({str(LOG)!r}); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_bundled_log_is_read_as_its_datasheet_says() -> None:
    events = recsys.load_events(LOG)
    assert len(events) == 525_921
    assert events["event_type"].value_counts().to_dict() == {"purchase": 517_287, "cancellation": 8_634}
    assert len(recsys.load_items(LOG)) == 3_812
    assert recsys.load_users(LOG)["country"].nunique() == 37


def test_files_folders_and_parts_are_read_alike(tmp_path: Path) -> None:
    small = pq.read_table(LOG / "events.parquet").slice(0, 100)
    pq.write_table(small, tmp_path / "one.parquet")
    (tmp_path / "prepared" / "events").mkdir(parents=True)
    pq.write_table(small.slice(0, 60), tmp_path / "prepared" / "events" / "part-00000.parquet")
    pq.write_table(small.slice(60), tmp_path / "prepared" / "events" / "part-00001.parquet")
    one = recsys.load_events(tmp_path / "one.parquet")
    assert len(one) == 100
    pd.testing.assert_frame_equal(one, recsys.load_events(str(tmp_path / "prepared")))


def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sku": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match="no event table"):
        recsys.load_events(tmp_path / "nothing")
    with pytest.raises(UserError, match="lacks the columns timestamp, item_id, event_type"):
        recsys.load_events(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="is no Parquet event table"):
        recsys.load_events(tmp_path / "text.parquet")
    with pytest.raises(UserError, match="no table of items"):
        recsys.load_items(tmp_path)


def test_what_holds_a_log_of_another_kind_is_refused_with_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        UserError, match=r"event table; `recsys import .*clicks\.csv OUT --format file --mapping"
    ):
        recsys.load_events(tmp_path / "clicks.csv")
    with sqlite3.connect(tmp_path / "own.sqlite") as connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(UserError, match=r"recsys\.frames\.store\.read_store\(sqlite3\.connect"):
        recsys.load_events(tmp_path / "own.sqlite")
    (tmp_path / "broken.parquet").write_text("x")
    with pytest.raises(UserError, match=r"export it again \(.* …\)$"):
        recsys.load_events(tmp_path / "broken.parquet")
    for read in (recsys.load_events, recsys.load_items, recsys.load_users):
        (tmp_path / "run" / "prepare").mkdir(parents=True, exist_ok=True)
        with pytest.raises(UserError, match=r"run is the folder of a run; give .*run/prepare, its"):
            read(tmp_path / "run")


def test_a_bundle_says_what_it_is_in_a_few_lines(tmp_path: Path) -> None:
    shown = repr(recsys.load_bundle(write_tiny_bundle(tmp_path / "bundle")))
    assert shown.startswith("QBundle(version=")
    assert "items)" in shown
    assert not re.search(r"array\(|tensor\(|Linear\(", shown)
    assert len(shown) < 1500


def test_a_bundle_is_found_by_folder_version_and_alias(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "made")
    registry = Registry(tmp_path / "registry")
    version = registry.publish(folder, "metaq")
    registry.set_alias("metaq", "champion", version)
    by_alias = recsys.load_bundle(tmp_path / "registry")
    assert by_alias.version == recsys.load_bundle(tmp_path / "registry", version).version == version
    assert recsys.load_recommender(str(folder)).catalogue.item_ids == by_alias.catalogue.item_ids
    with pytest.raises(UserError):
        recsys.load_bundle(tmp_path / "registry", "nobody")
