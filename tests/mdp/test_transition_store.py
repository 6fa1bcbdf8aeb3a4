"""A store gives back what was written, in whatever chunks, and refuses what was not finished."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import UserError
from recsys.mdp.transition_store import (
    EVENT_SCHEMA,
    MANIFEST,
    Array,
    ColumnSpec,
    RingStore,
    StoreWriter,
    open_store,
    vector_schema,
)

SCHEMA = {"state": ColumnSpec("<f4", 2), "action": ColumnSpec("<i4")}


def rows(first: int, count: int) -> dict[str, Array]:
    numbers = np.arange(first, first + count)
    return {"state": np.stack([numbers, -numbers], axis=1).astype(np.float32), "action": numbers}


def write(folder: Path, *chunks: dict[str, Array]) -> None:
    with StoreWriter(folder, SCHEMA) as writer:
        for chunk in chunks:
            writer.append(chunk)


def actions(folder: Path) -> list[int]:
    return open_store(folder).columns["action"].tolist()


def test_chunks_come_back_end_to_end_and_mapped(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 3), rows(3, 0), rows(3, 5))
    store = open_store(tmp_path)
    assert len(store) == 8
    assert all(isinstance(column, np.memmap) for column in store.columns.values())
    assert store.columns["state"].tolist() == [[n, -n] for n in range(8)]
    assert actions(tmp_path) == list(range(8))
    with pytest.raises(ValueError, match="read-only"):
        store.columns["action"][0] = 5  # type: ignore[index]


def test_a_finished_store_is_appended_to(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 3))
    before = open_store(tmp_path)
    write(tmp_path, rows(3, 2))
    assert before.columns["action"].tolist() == [0, 1, 2]  # whoever reads it keeps what was there
    assert actions(tmp_path) == [0, 1, 2, 3, 4]


def test_columns_are_plain_npy_files(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 3))
    assert np.load(tmp_path / "state.npy").tolist() == rows(0, 3)["state"].tolist()


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(open_store(tmp_path)) == 0
    write(tmp_path, rows(0, 2))
    assert actions(tmp_path) == [0, 1]


class Killed(BaseException):
    """What ends a process without asking it."""


def killed_while_writing(folder: Path) -> None:
    with contextlib.suppress(Killed), StoreWriter(folder, SCHEMA) as writer:
        writer.append(rows(100, 50))
        raise Killed


def test_a_store_that_was_never_finished_is_refused(tmp_path: Path) -> None:
    killed_while_writing(tmp_path)
    with pytest.raises(UserError, match=r"holds an unfinished transition store; build it again$"):
        open_store(tmp_path)
    write(tmp_path, rows(0, 2))  # which is all that the remedy takes
    assert actions(tmp_path) == [0, 1]


def test_an_append_that_was_cut_short_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 3))
    killed_while_writing(tmp_path)
    assert actions(tmp_path) == [0, 1, 2]
    write(tmp_path, rows(3, 2))
    assert actions(tmp_path) == [0, 1, 2, 3, 4]


def test_an_append_killed_between_columns_and_manifest_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 3))
    manifest = (tmp_path / MANIFEST).read_text()
    write(tmp_path, rows(3, 2))
    (tmp_path / MANIFEST).write_text(manifest)  # every column has grown, the manifest was not replaced
    assert actions(tmp_path) == [0, 1, 2]


def cut_column(folder: Path) -> None:
    with (folder / "state.npy").open("r+b") as file:
        file.truncate(140)


def other_type(folder: Path) -> None:
    np.save(folder / "action.npy", np.zeros(3))


def fewer_rows(folder: Path) -> None:
    np.save(folder / "action.npy", np.zeros(2, np.int32))


def other_format(folder: Path) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**raw, "format": 99}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "state.npy").unlink(), r"state.npy is missing or damaged"),
        (cut_column, r"state.npy is missing or damaged"),
        (other_type, r"action.npy holds float64 of shape \(3,\), must hold 3 rows of <i4"),
        (fewer_rows, r"action.npy holds int32 of shape \(2,\), must hold 3 rows of <i4"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 1'), "is damaged"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 1}'), "is damaged"),
        (other_format, "format 99, must be 1"),
    ],
)
def test_damage_is_refused_with_one_line(tmp_path: Path, damage: object, told: str) -> None:
    write(tmp_path, rows(0, 3))
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(UserError, match=told) as refused:
        open_store(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no transition store"):
        open_store(tmp_path / "nowhere")


def test_columns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, SCHEMA) as writer:
        with pytest.raises(UserError, match="do not fit the store's"):
            writer.append({"state": np.zeros((1, 2))})
        with pytest.raises(UserError, match=r"column state has shape \(1, 3\), must be \(1, 2\)"):
            writer.append({"state": np.zeros((1, 3)), "action": np.zeros(1)})
        assert writer.rows == 0
    with pytest.raises(UserError, match="cannot take"), StoreWriter(tmp_path, EVENT_SCHEMA):
        pass


@given(sizes=st.lists(st.integers(0, 9), max_size=8), capacity=st.integers(1, 7))
def test_a_ring_holds_the_newest(sizes: list[int], capacity: int) -> None:
    ring, first = RingStore(capacity, SCHEMA), 0
    for size in sizes:
        place = ring.append(rows(first, size))
        kept = np.arange(first, first + size)[max(0, size - capacity) :]
        assert ring.columns["action"][place].tolist() == kept.tolist()
        first += size
    newest = list(range(first))[-capacity:]
    assert len(ring) == len(newest)
    assert sorted(ring.columns["action"][: len(ring)].tolist()) == newest
    assert ring.columns["state"][: len(ring), 1].tolist() == [
        -a for a in ring.columns["action"][: len(ring)].tolist()
    ]


def test_a_restored_ring_goes_on_where_it_was() -> None:
    ring, other = RingStore(5, SCHEMA), RingStore(5, SCHEMA)
    ring.append(rows(0, 7))
    other.restore(ring.state())
    for either in (ring, other):
        either.append(rows(7, 2))
    assert other.columns["action"].tolist() == ring.columns["action"].tolist()
    assert (len(other), other.position) == (len(ring), ring.position)


def test_a_ring_too_small_for_its_state_says_so() -> None:
    ring = RingStore(5, SCHEMA)
    ring.append(rows(0, 5))
    with pytest.raises(UserError, match="5 saved transitions do not fit a capacity of 4"):
        RingStore(4, SCHEMA).restore(ring.state())


def test_a_ring_that_has_gone_round_does_not_go_on_in_a_larger_one() -> None:
    """Rows behind the old end were never written, and would be drawn as zeros."""
    ring, larger = RingStore(5, SCHEMA), RingStore(8, SCHEMA)
    ring.append(rows(0, 7))
    with pytest.raises(UserError, match="5 saved transitions do not fit a capacity of 8"):
        larger.restore(ring.state())
    half = RingStore(5, SCHEMA)
    half.append(rows(0, 3))
    larger.restore(half.state())
    larger.append(rows(3, 2))
    assert larger.columns["action"][:5].tolist() == rows(0, 5)["action"].tolist()


def test_a_ring_without_room_is_refused() -> None:
    with pytest.raises(UserError, match="capacity is 0"):
        RingStore(0, vector_schema(3))
