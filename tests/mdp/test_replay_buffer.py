"""Batches hold the rows they name, seeded samplers repeat, and a saved replay goes on exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import UserError
from recsys.mdp.builder import ReturnRule, log_transitions
from recsys.mdp.priorities import PriorityRule
from recsys.mdp.replay_buffer import PrioritizedReplay, Replay, UniformReplay
from recsys.mdp.replay_log import VectorLog, vector_columns, write_log_store
from recsys.mdp.transition_store import (
    EVENT_SCHEMA,
    Array,
    MappedStore,
    RingStore,
    StoreWriter,
    TransitionStore,
    open_store,
    vector_schema,
)
from tests.memory_log import Event, Told, memory_log, random_told

ROWS = 50


def columns(count: int, first: int = 0) -> dict[str, Array]:
    """Transitions whose every column tells which they are."""
    number = np.arange(first, first + count)
    return {
        "state": np.stack([number, number * 2], axis=1).astype(np.float32),
        "action": number % 7,
        "n_step_return": number * 0.5,
        "bootstrap": number % 2,
        "next_state": np.stack([number * 3, number * 4], axis=1).astype(np.float32),
        "next_action": number % 5 - 1,
    }


def ring(count: int = ROWS, capacity: int = 64) -> RingStore:
    store = RingStore(capacity, vector_schema(2))
    store.append(columns(count))
    return store


def mapped(folder: Path) -> MappedStore:
    with StoreWriter(folder, vector_schema(2)) as writer:
        writer.append(columns(ROWS))
    return open_store(folder)


@pytest.fixture(params=["ring", "mapped"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TransitionStore:
    return ring() if request.param == "ring" else mapped(tmp_path)


@pytest.fixture(params=["uniform", "prioritized"])
def replay(request: pytest.FixtureRequest, store: TransitionStore) -> Replay:
    return UniformReplay(store) if request.param == "uniform" else PrioritizedReplay(store, PriorityRule())


def test_a_batch_holds_the_rows_that_its_index_names(replay: Replay) -> None:
    batch = replay.sample(300, np.random.default_rng(0))
    number = batch.index
    assert len(batch) == 300
    assert set(number.tolist()) == set(range(ROWS))  # all are drawn, and nothing that is not stored
    assert batch.state.tolist() == torch.stack([number, number * 2], dim=1).tolist()
    assert batch.next_state.tolist() == torch.stack([number * 3, number * 4], dim=1).tolist()
    assert batch.action.tolist() == (number % 7).tolist()
    assert batch.next_action.tolist() == (number % 5 - 1).tolist()
    assert batch.n_step_return.tolist() == (number * 0.5).tolist()
    assert batch.bootstrap.tolist() == (number % 2).tolist()
    assert batch.weight.tolist() == [1.0] * 300  # equal priorities too
    floats = (batch.state, batch.next_state, batch.n_step_return, batch.bootstrap, batch.weight)
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert {tensor.dtype for tensor in (batch.action, batch.next_action, batch.index)} == {torch.int64}


def test_a_seeded_sampler_repeats(replay: Replay) -> None:
    one, two, three = (replay.sample(64, np.random.default_rng(seed)).index.tolist() for seed in (4, 4, 5))
    assert one == two != three


def test_a_batch_is_left_alone_by_later_draws_and_by_its_reader(replay: Replay) -> None:
    batch = replay.sample(8, np.random.default_rng(0))
    before = batch.state.clone()
    replay.sample(8, np.random.default_rng(1)).state.zero_()
    assert torch.equal(batch.state, before)
    assert torch.equal(replay.sample(8, np.random.default_rng(0)).state, before)


def test_wrong_transitions_come_back_more_often(store: TransitionStore) -> None:
    replay = PrioritizedReplay(store, PriorityRule(alpha=1.0, epsilon=1e-9))
    replay.update(torch.arange(ROWS), torch.zeros(ROWS))
    replay.update(torch.tensor([3, 9]), torch.tensor([-3.0, 1.0]))
    drawn = replay.sample(400, np.random.default_rng(0)).index
    assert torch.bincount(drawn, minlength=ROWS)[[3, 9]].tolist() == [300, 100]


def test_what_is_appended_is_drawn_and_what_it_replaces_is_not() -> None:
    replay = PrioritizedReplay(ring(count=4, capacity=6), PriorityRule(alpha=1.0))
    replay.update(torch.arange(4), torch.tensor([0.0, 0.0, 0.0, 9.0]))
    replay.append(columns(3, first=100))  # places 4, 5 and 0
    assert len(replay) == 6
    states = replay.sample(500, np.random.default_rng(0)).state[:, 0].tolist()
    assert set(states) >= {100.0, 101.0, 102.0, 3.0}
    assert 0.0 not in states


def test_a_replay_on_disk_cannot_be_appended_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="read-only"):
        PrioritizedReplay(mapped(tmp_path), PriorityRule()).append(columns(1))


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_an_empty_replay_is_refused(kind: str) -> None:
    store = RingStore(4, vector_schema(2))
    replay: Replay = UniformReplay(store) if kind == "uniform" else PrioritizedReplay(store, PriorityRule())
    with pytest.raises(UserError, match="the replay holds 0 transitions"):
        replay.sample(2, np.random.default_rng(0))


def test_a_restored_replay_goes_on_exactly(store: TransitionStore, tmp_path: Path) -> None:
    rule = PriorityRule(anneal_draws=5)
    replay = PrioritizedReplay(store, rule)
    generator = np.random.default_rng(3)
    for _ in range(3):
        batch = replay.sample(16, generator)
        replay.update(batch.index, batch.n_step_return - 3.0)
    saved, chance = replay.state(), generator.bit_generator.state
    np.savez(tmp_path / "replay.npz", **saved)

    again = np.random.default_rng(0)
    again.bit_generator.state = chance
    same = RingStore(64, vector_schema(2)) if isinstance(store, RingStore) else store
    other = PrioritizedReplay(same, rule)
    with np.load(tmp_path / "replay.npz") as arrays:
        other.restore(dict(arrays))
    for _ in range(4):
        one, two = replay.sample(16, generator), other.sample(16, again)
        for name in ("index", "weight", "state", "next_action"):
            assert torch.equal(getattr(one, name), getattr(two, name))
        replay.update(one.index, one.state[:, 0])
        other.update(two.index, two.state[:, 0])
        if isinstance(store, RingStore):
            replay.append(columns(5, first=200))
            other.append(columns(5, first=200))


def test_a_state_of_another_store_is_refused() -> None:
    saved = PrioritizedReplay(ring(), PriorityRule()).state()
    with pytest.raises(UserError, match=r"of 64 places, must be of 80"):
        PrioritizedReplay(ring(capacity=80), PriorityRule()).restore(saved)


def test_transitions_of_a_vector_log_are_those_computed_by_hand() -> None:
    log = VectorLog(
        state=np.array([[1.0], [2.0], [3.0], [7.0]], np.float32),
        action=np.array([10, 11, 12, 13], np.int32),
        reward=np.array([1.0, 2.0, 4.0, 8.0], np.float32),
        timestamp=np.zeros(4, np.int64),
        offsets=np.array([0, 3, 4]),
        final_state=np.array([[4.0], [8.0]], np.float32),
        terminal=np.array([True, False]),
    )
    found = vector_columns(log, ReturnRule(n_step=2, discount=0.5))
    assert found["n_step_return"].tolist() == [2.0, 4.0, 4.0, 8.0]
    assert found["bootstrap"].tolist() == [0.25, 0.0, 0.0, 0.5]
    assert found["next_state"][:, 0].tolist() == [3.0, 4.0, 4.0, 8.0]
    assert found["next_action"].tolist() == [12, -1, -1, -1]
    with pytest.raises(UserError, match="1 final states do not fit 2 histories"):
        vector_columns(
            VectorLog(**{**vars(log), "final_state": log.final_state[:1]}), ReturnRule(n_step=2, discount=0.5)
        )


def test_a_log_written_in_parts_is_sampled_as_its_transitions(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(1, 20, 12)])
    rule = ReturnRule(n_step=3, discount=0.5)
    store = write_log_store(tmp_path, log, np.arange(12), rule, rows_at_once=7)
    (whole,) = log_transitions(log, np.arange(12), rule)
    batch = UniformReplay(store).sample_events(200, generator)
    place = batch.index.numpy()
    assert len(store) == len(whole.event)
    assert batch.event.tolist() == whole.event[place].tolist()
    assert batch.action.tolist() == log.item[batch.event].tolist()
    assert batch.next_event.tolist() == (whole.event + whole.columns.steps)[place].tolist()
    assert batch.next_action.tolist() == whole.next_action[place].tolist()
    assert batch.n_step_return.tolist() == whole.columns.n_step_return[place].tolist()
    assert batch.bootstrap.tolist() == whole.columns.bootstrap[place].tolist()


def test_a_log_of_one_user_with_one_event_is_a_replay(tmp_path: Path) -> None:
    log = memory_log([Told([Event(3, reward=2.0)])], items=1)
    replay = PrioritizedReplay(
        write_log_store(tmp_path, log, np.array([0]), ReturnRule(3, 0.5)), PriorityRule()
    )
    batch = replay.sample_events(2, np.random.default_rng(0))
    assert (batch.event.tolist(), batch.next_event.tolist()) == ([0, 0], [1, 1])
    assert (batch.n_step_return.tolist(), batch.bootstrap.tolist()) == ([2.0, 2.0], [0.5, 0.5])
    assert batch.next_action.tolist() == [-1, -1]


def test_a_log_without_training_events_is_an_empty_replay(tmp_path: Path) -> None:
    log = memory_log([Told([Event(3)], train_end=0)])
    store = write_log_store(tmp_path, log, np.array([0]), ReturnRule(3, 0.5))
    assert len(store) == 0
    assert set(store.columns) == set(EVENT_SCHEMA)
    with pytest.raises(UserError, match="holds 0 transitions"):
        UniformReplay(store).sample_events(1, np.random.default_rng(0))
