"""What every adapter must do, held against small logs whose right answers are known."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from recsys.config import PrepareConfig, RewardConfig, SplitConfig
from recsys.datasets.canonical import NULLABLE
from recsys.datasets.registry import open_log
from recsys.logs.prepare import prepare

CONFIG = {
    "split": SplitConfig(kind="users"),
    "reward": RewardConfig(
        base={"impression": 0.0, "click": 0.2, "purchase": 1.0, "cancellation": -1.0, "rating": 0.0}
    ),
    "content_features": 8,
}


def written(sample, out: Path):
    """Prepare a sample and return its facts."""
    return prepare(PrepareConfig(log=sample.log, **CONFIG), seed=7, out=out)


def test_batches_have_the_canonical_columns_and_align_with_their_source_rows(write_sample, tmp_path):
    sample = write_sample(tmp_path, None)
    for batch in open_log(sample.log).batches():
        assert batch.events.schema.equals(NULLABLE)
        assert batch.events.num_rows == len(batch.rows) == batch.raw.num_rows
        assert all(mask.shape == batch.rows.shape and mask.dtype == bool for mask in batch.refused.values())


def test_every_source_row_is_an_event_or_is_counted_by_a_rule(write_sample, tmp_path):
    sample = write_sample(tmp_path, None)
    batches = list(open_log(sample.log).batches())
    rows = {int(row) for batch in batches for row in batch.rows}
    removed = sum(sum(batch.removed.values()) for batch in batches)
    malformed = sum(len(batch.malformed) for batch in batches)
    assert sum(batch.read for batch in batches) == sample.rows == len(rows) + removed + malformed
    assert rows <= set(range(1, sample.rows + 1))


def test_a_second_reading_gives_the_same(write_sample, tmp_path):
    adapter = open_log(write_sample(tmp_path, None).log)
    first, second = ([batch.events for batch in adapter.batches()] for _ in range(2))
    assert pa.concat_tables(first).equals(pa.concat_tables(second))
    assert adapter.expected_rows() > 0


def test_the_size_of_a_batch_changes_nothing(write_sample, tmp_path):
    log = write_sample(tmp_path, None).log
    large = pa.concat_tables(batch.events for batch in open_log(log).batches())
    small = [batch.events for batch in open_log(log.model_copy(update={"batch_rows": 2})).batches()]
    assert len(small) > 1
    assert pa.concat_tables(small).sort_by("event_id").equals(large.combine_chunks().sort_by("event_id"))


def test_side_tables_are_keyed_and_repeatable(write_sample, tmp_path):
    adapter = open_log(write_sample(tmp_path, None).log)
    items, users = adapter.items(), adapter.users()
    if items is not None:
        assert items["item_id"].null_count == 0
        assert adapter.items().equals(items)
    if users is not None:
        assert users["user_id"].null_count == 0
        assert adapter.users().equals(users)


def test_preparing_gives_the_known_counts(write_sample, tmp_path):
    sample = write_sample(tmp_path, None)
    info = written(sample, tmp_path / "out")
    assert (info.rows_read, info.events, info.sessions, info.items) == (
        sample.rows,
        sample.events,
        sample.sessions,
        sample.items,
    )
    assert info.quarantined == sample.quarantined
    assert info.removed_by_rule == sample.removed


@pytest.mark.parametrize("shuffle", [1, 2])
def test_the_order_of_the_rows_changes_no_byte(write_sample, tmp_path, shuffle):
    log, plain, shuffled = tmp_path / "log", tmp_path / "plain", tmp_path / "shuffled"
    log.mkdir()
    written(write_sample(log, None), plain)
    written(write_sample(log, shuffle), shuffled)
    names = sorted(path.relative_to(plain) for path in plain.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(shuffled) for path in shuffled.rglob("*") if path.is_file())
    for name in names:
        if name.name == "quarantine.csv":  # its row numbers follow the file
            assert refused(plain / name) == refused(shuffled / name)
        else:
            assert (plain / name).read_bytes() == (shuffled / name).read_bytes(), name


def refused(path: Path) -> list[tuple[str, str]]:
    """Return the reasons and rows of a quarantine, sorted."""
    with path.open(newline="") as file:
        return sorted((line["reason"], line["row"]) for line in csv.DictReader(file))
