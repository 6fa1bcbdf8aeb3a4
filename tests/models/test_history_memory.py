"""The memory sums what its formula says, forgets as it says, and each fold reads factors it did not make."""

import math

import numpy as np
import pytest
import torch

from recsys.mdp.state import History, StateBatch, encode_states
from recsys.models.history_memory import HOURS_PER_MONTH, NO_DOUBT, HistoryMemory
from recsys.models.item_tower import ItemTower
from recsys.models.q_network import QNetwork
from tests.factories import tiny_shape
from tests.memory_log import random_history

ITEMS, FEATURES, TIME, TYPES = 30, 5, 9, 4


@pytest.fixture
def batch() -> StateBatch:
    generator = np.random.default_rng(3)
    histories: list[History] = [random_history(generator, events, ITEMS) for events in (0, 1, 4, TIME)]
    return encode_states(histories, TIME)


@pytest.fixture
def memory() -> HistoryMemory:
    torch.manual_seed(1)
    memory = HistoryMemory(FEATURES, TYPES)
    with torch.no_grad():
        memory.by_type.normal_(std=0.3)
        memory.by_reward.fill_(0.4)
        memory.by_age.fill_(-1.0)
        memory.by_time.fill_(0.5)
        memory.same_session.fill_(0.7)
        memory.length_power.fill_(0.3)
        memory.log_noise.fill_(-0.4)
        memory.explained_power.fill_(0.2)
        memory.log_explained.fill_(0.6)
        memory.log_doubt.copy_(torch.tensor([0.3, -0.2]))
    return memory


def told_at_once(
    memory: HistoryMemory, batch: StateBatch, vectors: torch.Tensor, user: int, state: int
) -> torch.Tensor:
    """The posterior mean after the first `state` events, by the normal equations over features."""
    known = vectors[user, :state].double()
    said = (
        1.0 + memory.by_type[batch.event_type[user, :state]] + memory.by_reward * batch.reward[user, :state]
    )
    noise = math.exp(float(memory.log_noise))
    precision = known.T @ known + noise * torch.eye(FEATURES, dtype=torch.float64)
    return torch.linalg.solve(precision, known.T @ said.double()).float()


def told_slowly(memory: HistoryMemory, batch: StateBatch, vectors: torch.Tensor) -> torch.Tensor:
    """The formula, event by event."""
    softplus = lambda x: math.log1p(math.exp(float(x)))  # noqa: E731
    users, time = batch.item.shape
    out = torch.zeros(users, time + 1, vectors.shape[-1])
    for user in range(users):
        length = int(batch.lengths[user])
        hours, session, clock, number = [], [], 0.0, 0
        for place in range(length):
            clock += math.expm1(float(batch.log_gap[user, place]))
            number += int(batch.new_session[user, place])
            hours.append(clock)
            session.append(number)
        for state in range(length + 1):
            total = 0.0
            for event in range(state):
                trust = (
                    1.0
                    + float(memory.by_type[batch.event_type[user, event]])
                    + float(memory.by_reward) * float(batch.reward[user, event])
                )
                exponent = -softplus(memory.by_age) * (state - 1 - event)
                exponent -= softplus(memory.by_time) * (hours[state - 1] - hours[event]) / HOURS_PER_MONTH
                exponent += float(memory.same_session) * (session[state - 1] == session[event])
                weight = trust * math.exp(exponent)
                total += abs(weight)
                out[user, state] += weight * vectors[user, event]
            doubted = [total / (total + math.exp(float(kappa))) for kappa in memory.log_doubt]
            out[user, state] *= doubted[0] * max(total, 1.0) ** -float(memory.length_power)
            solved = told_at_once(memory, batch, vectors, user, state)
            scale = math.exp(float(memory.log_explained)) * max(total, 1.0) ** -float(memory.explained_power)
            out[user, state] += doubted[1] * scale * solved
    return out


@torch.no_grad()
def test_the_sum_is_that_of_the_formula(memory: HistoryMemory, batch: StateBatch) -> None:
    vectors = torch.randn(*batch.item.shape, FEATURES)
    found, wanted = memory(batch, vectors), told_slowly(memory, batch, vectors)
    for user, length in enumerate(batch.lengths.tolist()):
        torch.testing.assert_close(
            found[user, : length + 1], wanted[user, : length + 1], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_a_user_without_events_has_no_memory(memory: HistoryMemory, batch: StateBatch) -> None:
    assert not memory(batch, torch.randn(*batch.item.shape, FEATURES))[:, 0].any()


def test_both_readouts_start_at_one_scale_in_logits_and_doubt_as_asked(memory: HistoryMemory) -> None:
    memory.start_from(scale=4.0, temperature=0.1, doubt=1.5)
    assert memory.log_doubt.exp().tolist() == pytest.approx([1.5, 1.5])
    for_q, for_behavior = memory.read(torch.ones(FEATURES))
    assert for_q.tolist() == pytest.approx([0.4] * FEATURES)
    assert for_behavior.tolist() == pytest.approx([4.0] * FEATURES)


@torch.no_grad()
def test_q_is_the_learnt_part_plus_what_goes_together(batch: StateBatch) -> None:
    torch.manual_seed(0)
    shape = tiny_shape(ITEMS)
    network = QNetwork(type(shape)(**{**vars(shape), "memory_features": FEATURES}), temperature=0.1).eval()
    factors = np.random.default_rng(0).normal(size=(ITEMS, FEATURES)).astype(np.float32)
    network.tower.remember(factors)
    assert network.states.memory is not None
    network.states.memory.start_from(scale=1.0, temperature=0.1)
    with_memory = network.state_vectors(batch).advantage
    vectors, _ = network.tower.table()
    known = torch.from_numpy(factors)
    asked = 0.1 * told_slowly(network.states.memory, batch, known[batch.item.clamp(min=0)])
    learnt = with_memory[..., : shape.item_features] @ vectors[:, : shape.item_features].T
    row = torch.arange(len(batch.lengths))
    torch.testing.assert_close(
        (with_memory @ vectors.T)[row, batch.lengths],
        (learnt + asked @ known.T)[row, batch.lengths],
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_fold_reads_what_the_others_made_and_the_table_what_everybody_made() -> None:
    everybody, without = np.ones((6, 2), np.float32), np.full((6, 2), 3.0, np.float32)
    tower = ItemTower(6, 4, 3, id_dropout=0.0, memory_features=2).eval()
    tower.remember(everybody, [everybody, without])
    item = torch.arange(6)
    tower.held_out_fold = 1
    assert (tower(item)[:, 3:] == 3.0).all()
    assert (tower.table()[0][:, 3:] == 1.0).all()
    assert tower.held_out_fold == 1
    tower.held_out_fold = None
    assert (tower(item)[:, 3:] == 1.0).all()


@torch.no_grad()
def test_older_weights_load_as_what_they_were(memory: HistoryMemory, batch: StateBatch) -> None:
    """Before b there was only the sum, before κ no doubt, and evidence below 0 counted as none."""
    vectors = torch.randn(*batch.item.shape, FEATURES)
    memory.by_type.fill_(-1.2)  # rewards of 0 then speak against their items
    newer = ("log_noise", "explained_power", "log_explained", "log_doubt", "least_said")
    older = {name: weight for name, weight in memory.state_dict().items() if name not in newer}
    loaded = HistoryMemory(FEATURES, TYPES)
    loaded.load_state_dict(older)
    assert (memory.trust(batch) < 0).any()
    memory.log_explained.fill_(-torch.inf)
    memory.log_doubt.fill_(NO_DOUBT)
    memory.least_said.zero_()
    torch.testing.assert_close(loaded(batch, vectors), memory(batch, vectors))


@torch.no_grad()
def test_silence_speaks_against_what_goes_with_it_and_no_weight_says_nothing(
    memory: HistoryMemory, batch: StateBatch
) -> None:
    vectors = torch.randn(*batch.item.shape, FEATURES)
    memory.by_reward.zero_()
    memory.by_type.fill_(-2.0)
    against = memory(batch, vectors)
    memory.by_type.fill_(0.0)
    torch.testing.assert_close(against, -memory(batch, vectors))
    memory.by_type.fill_(-1.0)
    assert not memory(batch, vectors).any()


@torch.no_grad()
def test_doubt_leaves_little_of_one_event_and_nearly_all_of_many(
    memory: HistoryMemory, batch: StateBatch
) -> None:
    vectors = torch.randn(*batch.item.shape, FEATURES)
    memory.by_type.zero_()
    memory.by_reward.zero_()
    memory.by_age.fill_(-40.0)  # nothing is forgotten: n counts events
    memory.by_time.fill_(-40.0)
    memory.same_session.zero_()
    memory.log_doubt.fill_(math.log(2.0))
    doubtful = memory(batch, vectors)[3]
    memory.log_doubt.fill_(NO_DOUBT)
    sure = memory(batch, vectors)[3]
    kept = doubtful[1:].norm(dim=-1) / sure[1:].norm(dim=-1)
    events = torch.arange(1, TIME + 1)
    torch.testing.assert_close(kept, events / (events + 2.0))


@torch.no_grad()
def test_saying_the_same_twice_counts_less_than_two_things(memory: HistoryMemory, batch: StateBatch) -> None:
    vectors = torch.randn(*batch.item.shape, FEATURES)
    vectors[3, 1] = vectors[3, 0]
    memory.by_type.zero_()
    memory.by_reward.zero_()
    explained = memory.explained(batch, vectors)[3, 2]
    assert float(explained[0]) == pytest.approx(float(explained[1]), rel=1e-4)
    assert float(explained[0]) < float(memory.explained(batch, vectors)[3, 1, 0])
