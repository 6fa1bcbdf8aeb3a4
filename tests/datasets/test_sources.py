"""Tables streamed from disk: rows keep their numbers, whatever stands between them."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.datasets.sources import CsvStyle, column_names, read_all, stream
from recsys.errors import UserError


def test_rows_keep_their_numbers_around_malformed_ones(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('a,b\n1,2\n3\n4,"x\ny"\n6,7,8\n9,10\n')
    batches = list(stream(path, 2))
    assert np.concatenate([batch.rows for batch in batches]).tolist() == [1, 3, 5]
    assert [refusal.row for batch in batches for refusal in batch.malformed] == [2, 4]
    assert sum(batch.read for batch in batches) == 5


def test_rows_keep_their_numbers_across_the_blocks_of_a_large_file(tmp_path):
    path = tmp_path / "log.csv"
    lines = [f"{row},{'x' * 40}" for row in range(1, 200_001)]
    for row in (7, 120_000, 200_000):
        lines[row - 1] = str(row)
    path.write_text("\n".join(["a,b", *lines]) + "\n")
    batches = list(stream(path, 60_000))
    assert all(batch.rows.tolist() == [int(row) for row in batch.table["a"].to_pylist()] for batch in batches)
    assert [refusal.row for batch in batches for refusal in batch.malformed] == [7, 120_000, 200_000]


def test_words_that_other_readers_take_for_nothing_stay_words(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a\nNA\nnull\nNaN\n")
    assert read_all(path)["a"].to_pylist() == ["NA", "null", "NaN"]


def test_compressed_and_headerless_text_is_read(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress("é|2\n".encode("latin-1")))
    table = read_all(path, CsvStyle(delimiter="|", quoted=False, encoding="latin-1", names=("a", "b")))
    assert table.to_pylist() == [{"a": "é", "b": "2"}]


def test_json_lines_survive_broken_lines_and_mixed_types(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": "q"}\n[1]\nbroken\n\n{"a": null}\n')
    (batch,) = stream(path, 10)
    assert batch.table["a"].to_pylist() == ["1", "q", None]
    assert batch.rows.tolist() == [1, 2, 5]
    assert [(refusal.row, refusal.reason) for refusal in batch.malformed] == [
        (3, "not a JSON object"),
        (4, "not a JSON object"),
    ]


def test_a_header_alone_is_a_table_without_rows(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a,b")
    assert list(stream(path, 10)) == []


def test_only_the_columns_asked_for_are_read_from_parquet(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3], "b": [4, 5, 6]}), path)
    batches = list(stream(path, 2, columns=["b", "absent"]))
    assert [batch.table.to_pydict() for batch in batches] == [{"b": [4, 5]}, {"b": [6]}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.parquet", b"no parquet", "is not a Parquet file"),
        ("log.csv", b"", "is empty"),
        ("log.csv", b"a\n\xff\xfe\n", "is not utf8 CSV"),
        ("absent.csv", None, "no CSV file at"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(stream(path, 10))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_header_may_be_quoted_and_begin_with_a_mark(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b'\xef\xbb\xbf"a,b",c\r\n1,2\r\n')
    assert column_names(path) == ["a,b", "c"]
    assert read_all(path).to_pylist() == [{"a,b": "1", "c": "2"}]
