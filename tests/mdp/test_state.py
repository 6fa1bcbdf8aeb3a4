"""States held against tokens computed by hand, and offline states against live ones."""

import numpy as np
import pytest
import torch

from recsys.evaluation.cold_start import history_of
from recsys.mdp.state import StateBatch, empty_history, encode_states
from recsys.mdp.windows import Windows, read_windows
from tests.memory_log import Event, history, memory_log, random_history, random_told

TWO = (
    history(Event(4, 0, 0, 1.0, 3), Event(2, 3600, 0, 0.2, 1), Event(4, 3600 * 8, 1, -1.0, 0), attribute=2),
    history(Event(7, 500, 5, 0.0, 2), attribute=0),
)


def same(one: StateBatch, other: StateBatch) -> None:
    for name in StateBatch.__dataclass_fields__:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)


def test_tokens_are_those_computed_by_hand() -> None:
    batch = encode_states(TWO, max_events=5)
    assert batch.item.tolist() == [[4, 2, 4], [7, -1, -1]]
    assert batch.event_type.tolist() == [[3, 1, 0], [2, 0, 0]]
    assert batch.reward.tolist() == [[1.0, pytest.approx(0.2), -1.0], [0.0, 0.0, 0.0]]
    # an hour, then seven: log 2 and log 8; the first event of a history has nothing before it
    assert batch.log_gap.tolist() == [
        [0.0, pytest.approx(np.log(2)), pytest.approx(np.log(8))],
        [0.0, 0.0, 0.0],
    ]
    assert batch.new_session.tolist() == [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert batch.attributes.tolist() == [[2], [0]]
    assert batch.lengths.tolist() == [3, 1]
    assert batch.present.tolist() == [[True, True, True], [True, False, False]]


def test_every_history_starts_a_session_whatever_its_neighbour_was_in() -> None:
    batch = encode_states([history(Event(1, 9 * 3600, 4), Event(2, 9 * 3600, 4)), history(Event(3, 0, 4))], 5)
    assert batch.new_session.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert not batch.log_gap.any()


def test_only_the_newest_events_are_read_and_the_oldest_of_them_starts_afresh() -> None:
    cut = encode_states(TWO[:1], max_events=2)
    assert cut.item.tolist() == [[2, 4]]
    assert cut.log_gap[0, 0] == 0.0
    assert cut.new_session.tolist() == [[1.0, 1.0]]
    same(cut, encode_states([TWO[0].last(2)], max_events=2))


def test_a_user_who_has_done_nothing_is_one_column_of_padding() -> None:
    batch = encode_states([empty_history(np.array([1], np.int32))], max_events=5)
    assert batch.item.tolist() == [[-1]]
    assert batch.lengths.tolist() == [0]


def test_an_empty_history_beside_a_full_one_changes_nothing() -> None:
    alone = encode_states(TWO[:1], max_events=5)
    beside = encode_states([empty_history(np.array([1], np.int32)), TWO[0]], max_events=5)
    assert torch.equal(beside.item[1], alone.item[0])
    assert torch.equal(beside.log_gap[1], alone.log_gap[0])
    assert torch.equal(beside.new_session[1], alone.new_session[0])


@pytest.mark.parametrize("seed", range(5))
def test_replayed_windows_are_what_a_live_user_with_these_events_would_be(seed: int) -> None:
    generator = np.random.default_rng(seed)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(1, 30, 6)])
    start, end, owner, live = [], [], [], []
    for index in range(6):
        whole = history_of(log, index)
        first = int(generator.integers(0, len(whole)))
        last = int(generator.integers(first + 1, len(whole) + 1))
        start.append(log.history_offsets[index] + first)
        end.append(log.history_offsets[index] + last)
        owner.append(index)
        live.append(whole.first(last).last(last - first))
    windows = Windows(np.array(start), np.array(end), np.array(owner))
    same(read_windows(log, windows, generator=None), encode_states(live, max_events=100))


def test_a_batch_of_many_holds_each_history_as_a_batch_of_one_does() -> None:
    generator = np.random.default_rng(3)
    histories = [random_history(generator, int(events)) for events in generator.integers(1, 20, 8)]
    many = encode_states(histories, max_events=12)
    for row, one in enumerate(histories):
        alone = encode_states([one], max_events=12)
        width = alone.item.shape[1]
        for name in ("item", "event_type", "reward", "log_gap", "new_session"):
            assert torch.equal(getattr(many, name)[row, :width], getattr(alone, name)[0]), name
        assert not many.present[row, width:].any()
