"""The small rooms of prepare, each held against answers worked out by hand."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import SplitConfig
from recsys.errors import UserError
from recsys.logs.arrays import ArrayWriter
from recsys.logs.attributes import user_attributes
from recsys.logs.buckets import Buckets
from recsys.logs.hashing import hash_strings, salted
from recsys.logs.prepared import Role
from recsys.logs.sessions import begins_by_gap, begins_by_name, ordinals
from recsys.logs.split import cut_time, split_by_time
from recsys.logs.vocabulary import Vocabulary

SECOND = 1_000_000
FIXED = [12035550249420947055, 6774081908283191102, 4839664623112444303]


@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=50), st.integers(0, 10))
def test_a_text_hashes_alike_wherever_it_stands(texts, offset):
    whole = hash_strings(pa.array(texts, pa.string()))
    alone = [hash_strings(pa.array([text], pa.string()))[0] for text in texts]
    assert whole.tolist() == [int(one) for one in alone]
    assert hash_strings(pa.array(texts, pa.string()).slice(offset)).tolist() == whole[offset:].tolist()
    different = {text or "" for text in texts}
    assert len(set(whole.tolist())) == len(different)


def test_hashes_are_fixed_for_ever():
    # a prepared log's order hangs on them
    assert hash_strings(pa.array(["", "a", "longer than eight bytes"])).tolist() == FIXED
    assert salted(hash_strings(pa.array(["a"])), 1) != salted(hash_strings(pa.array(["a"])), 2)


def test_hashes_spread_evenly():
    hashes = hash_strings(pa.array([str(number) for number in range(100_000)]))
    counts = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
    assert counts.min() > 6250 * 0.95
    assert counts.max() < 6250 * 1.05


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200), st.integers(1, 50), st.integers(1, 1000)
)
def test_buckets_give_back_every_row_in_the_order_of_the_hash(hashes, rows_per_bucket, expected):
    array = np.array(hashes, dtype=np.uint64)
    with tempfile.TemporaryDirectory() as folder:
        buckets = Buckets(Path(folder) / "b", expected, rows_per_bucket)
        for begin in range(0, len(array), 7):
            some = array[begin : begin + 7]
            buckets.add(pa.table({"value": pa.array(some)}), some)
        found = list(buckets.tables())
        assert not list(Path(folder).rglob("*.arrow"))
    assert sum(table.num_rows for table, _ in found) == len(array) == buckets.rows
    assert [left for _, left in found] == (len(array) - np.cumsum([t.num_rows for t, _ in found])).tolist()
    # every bucket lies wholly before the next, and is small unless its rows share one hash
    ends = [(table["value"].to_numpy().min(), table["value"].to_numpy().max()) for table, _ in found]
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert all(
        t.num_rows <= rows_per_bucket or low == high for (t, _), (low, high) in zip(found, ends, strict=True)
    )


def test_a_silence_longer_than_the_gap_ends_a_session():
    times = np.array([0, 1800, 3601, 3601, 0, 5000]) * SECOND
    history = np.array([True, False, False, False, True, False])
    begins = begins_by_gap(times, history, gap_s=1800.0)
    assert begins.tolist() == [True, False, True, False, True, True]  # 1800 s is not longer, 1801 s is
    assert ordinals(begins, history).tolist() == [0, 0, 1, 1, 0, 1]


def test_sessions_that_overlap_are_numbered_by_their_pieces():
    session = np.array([5, 5, 9, 5, 5, 9], dtype=np.uint64)
    history = np.array([True, False, False, False, True, False])
    begins = begins_by_name(session, history)
    assert ordinals(begins, history).tolist() == [0, 0, 1, 2, 0, 1]


def chunks(times):
    """Return times as a log's pieces."""
    return lambda: iter([np.array(times[:3]), np.array(times[3:])])


@pytest.mark.parametrize(
    ("times", "share", "cut"),
    [
        ([1, 2, 3, 4, 5], 0.4, 4),
        ([1, 2, 3, 4, 5], 0.3, 4),  # at least the share
        ([1, 5, 5, 5, 5], 0.2, 5),
        ([1, 2, 3, 4, 5], 1.0, 2),  # something always lies before the cut
        ([1, 2, 3, 4, 5], 0.0, 6),
    ],
)
def test_the_cut_leaves_at_least_the_share_after_it(times, share, cut):
    assert cut_time(SplitConfig(test_share=share), chunks(times), len(times), min(times), max(times)) == cut


def test_a_cut_without_a_zone_is_utc_and_one_with_it_is_heeded():
    day = 86_400
    for text in ("1970-01-02T00:00:00", "1970-01-02T02:00:00+02:00"):
        assert cut_time(SplitConfig(test_from=text), chunks([0, 2 * day]), 2, 0, 2 * day) == day
    with pytest.raises(UserError, match=r"must lie inside the log \(1970-01-01"):
        cut_time(SplitConfig(test_from="1969-01-01"), chunks([0, day]), 2, 0, day)


def test_the_validation_window_holds_the_share_of_users_seen_before_the_cut():
    began = np.array([10, 20, 30, 40, 50, 60, 35])
    anonymous = np.array([False, False, False, False, False, False, True])
    split = split_by_time(SplitConfig(validation_share=0.5), 50, began, anonymous)
    validation, test = int(Role.COLD_VALIDATION), int(Role.COLD_TEST)
    assert split.role.tolist() == [0, 0, validation, validation, test, test, 0]
    assert (split.test_from, split.validation_from) == (50, 30)
    assert split.train_end(np.array([1, 2, 3, 4, 0, 0, 5])).tolist() == [1, 2, 0, 0, 0, 0, 5]
    assert split_by_time(SplitConfig(validation_share=0.0), 50, began, anonymous).validation_from is None


def test_a_growing_vocabulary_ends_in_alphabetical_codes():
    vocabulary = Vocabulary()
    first = vocabulary.encode(pa.array(["m", "b", None, "m"]))
    second = vocabulary.encode(pa.array(["a", "b"]))
    ranks = vocabulary.sorted_order()
    assert vocabulary.values.to_pylist() == ["a", "b", "m"]
    assert [ranks[code] if code >= 0 else -1 for code in (*first, *second)] == [2, 1, -1, 2, 0, 1]


def test_a_closed_vocabulary_does_not_grow():
    vocabulary = Vocabulary(pa.array(["x", "y"]))
    assert vocabulary.encode(pa.array(["y", "new", None])).tolist() == [1, -1, -1]
    assert len(vocabulary.values) == 2


def test_rare_attribute_values_share_a_code_and_unknown_is_zero():
    users = pa.table(
        {
            "user_id": [str(number) for number in range(13)],
            "country": ["FR"] * 6 + ["DE"] * 5 + ["LU", None],
            "name": [f"unique {number}" for number in range(13)],
            "age": list(range(13)),
        }
    )
    names, values, codes = user_attributes(users)
    assert names == ("country",)  # a column of rare values only says nothing, numbers are no categories
    assert values == (("DE", "FR", "other"),)
    assert codes[:, 0].tolist() == [2] * 6 + [1] * 5 + [3, 0]
    assert codes.dtype == np.int32


def test_arrays_written_in_pieces_open_as_one(tmp_path):
    with ArrayWriter(tmp_path / "a.npy", np.int16) as writer:
        writer.append(np.array([1, 2]))
        writer.append(np.array([3, 4, 5]))
    whole = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (whole.tolist(), whole.dtype) == ([1, 2, 3, 4, 5], np.int16)
