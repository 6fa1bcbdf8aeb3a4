"""Windows read every training event once and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.logs.prepared import Role
from recsys.mdp.state import encode_states
from recsys.mdp.windows import (
    Windows,
    attributes_of,
    batches,
    cut_windows,
    ever_taken,
    first_seen,
    read_windows,
)
from tests.memory_log import EVENT_TYPES, Event, Told, history, memory_log, random_told, taken


@given(seed=st.integers(0, 10**6), max_events=st.integers(1, 12), count=st.integers(1, 8))
def test_windows_cover_every_training_event_once(seed: int, max_events: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(1, 40, count)])
    windows = cut_windows(log, np.arange(count), max_events, 1, generator)
    covered = np.concatenate(
        [np.arange(a, b) for a, b in zip(windows.start, windows.end, strict=True)] or [[]]
    )
    training = np.concatenate(
        [np.arange(s, s + n) for s, n in zip(log.history_offsets, log.history_train_end, strict=False)]
    )
    assert np.sort(covered).tolist() == training.tolist()
    assert (windows.end - windows.start <= max_events).all()
    for start, end, owner in zip(windows.start, windows.end, windows.history, strict=True):
        assert (
            log.history_offsets[owner]
            <= start
            < end
            <= log.history_offsets[owner] + log.history_train_end[owner]
        )


def test_pieces_too_short_to_learn_from_are_left_out() -> None:
    log = memory_log([taken(1, 2, 3), taken(4), taken(5, 6, role=Role.COLD_TEST)])
    windows = cut_windows(log, np.arange(3), 50, 2, np.random.default_rng(0))
    assert windows.history.tolist() == [0]


def test_edges_move_from_epoch_to_epoch() -> None:
    log = memory_log([taken(*([1] * 40))])
    generator = np.random.default_rng(0)
    edges = {tuple(cut_windows(log, np.array([0]), 7, 1, generator).start.tolist()) for _ in range(60)}
    assert len(edges) == 7


@pytest.mark.parametrize("similar_length", [True, False])
def test_batches_yield_each_window_once(similar_length: bool) -> None:
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(1, 40, 30)])
    windows = cut_windows(log, np.arange(30), 9, 1, generator)
    drawn = list(batches(windows, 8, generator, similar_length=similar_length))
    assert sorted(np.concatenate([batch.start for batch in drawn])) == sorted(windows.start)
    assert max(len(batch) for batch in drawn) == 8
    assert sum(len(batch) == 8 for batch in drawn) == len(windows) // 8


def test_only_events_of_one_second_and_session_change_places() -> None:
    events = [Event(0, 0, 0), *(Event(item, 60, 0) for item in (1, 2, 3)), Event(4, 60, 1), Event(5, 90, 1)]
    log = memory_log([Told(events), taken(6, 7)])
    windows = cut_windows(log, np.arange(2), 50, 1, np.random.default_rng(0))
    orders = set()
    for seed in range(60):
        batch = read_windows(log, windows, np.random.default_rng(seed))
        row = batch.item[0].tolist()
        assert row[0] == 0
        assert row[4:] == [4, 5]
        assert batch.item[1, :2].tolist() == [6, 7]
        orders.add(tuple(row[1:4]))
    assert len(orders) == 6  # every order of the three turns up
    assert read_windows(log, windows, None).item[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_reordered_event_keeps_its_columns() -> None:
    events = [Event(item, 60, 0, reward=float(item), event_type=item % 4) for item in range(8)]
    log = memory_log([Told(events)])
    windows = cut_windows(log, np.array([0]), 50, 1, np.random.default_rng(0))
    batch = read_windows(log, windows, np.random.default_rng(5))
    assert batch.item[0].tolist() != list(range(8))
    assert batch.reward[0].tolist() == [float(item) for item in batch.item[0]]
    assert batch.event_type[0].tolist() == [int(item) % 4 for item in batch.item[0]]


def test_first_seen_marks_the_first_of_each_item_in_its_own_row() -> None:
    batch = encode_states([history(*map(Event, (3, 3, 1, 3, 1))), history(*map(Event, (1, 3)))], max_events=9)
    assert first_seen(batch).tolist() == [
        [True, False, True, False, False],
        [True, True, False, False, False],
    ]


def test_a_batch_may_know_what_its_users_take_outside_their_windows_in_training() -> None:
    shown = EVENT_TYPES.index("impression")
    told = [
        Told([Event(place, 3600 * place) for place in range(6)], train_end=5),
        Told([Event(7), Event(8, event_type=shown), Event(1), Event(7)]),
    ]
    log = memory_log(told)
    log = replace(log, info=replace(log.info, impressions_are="actions"))
    windows = Windows(np.array([2, 6, 0]), np.array([4, 8, 2]), np.array([0, 1, 0]))
    items = torch.arange(10)
    narrow = ever_taken(read_windows(log, windows, None), items)
    assert [torch.nonzero(row)[:, 0].tolist() for row in narrow] == [[2, 3], [7], [0, 1]]
    wide = ever_taken(read_windows(log, windows, None, whole_histories=True), items)
    assert [torch.nonzero(row)[:, 0].tolist() for row in wide] == [[0, 1, 2, 3, 4], [1, 7], [0, 1, 2, 3, 4]]


def test_anonymous_sessions_have_no_attributes() -> None:
    log = memory_log([taken(1, attribute=2), taken(2, attribute=None), taken(3, attribute=1)])
    assert attributes_of(log, np.array([1, 2, 0])).tolist() == [[0], [1], [2]]
