"""Networks: padding and batching change no state, states see no future, and Q is what its formula says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.mdp.state import History, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.item_tower import ItemTower
from recsys.models.q_network import QNetwork, StateVectors, q_of_candidates, q_of_pairs
from recsys.models.student import StudentNetwork
from tests.factories import tiny_shape
from tests.memory_log import random_history

ITEMS, TIME = 40, 12


@pytest.fixture(params=[("recurrent", 0), ("gated", 0), ("attention", 0), ("recurrent", 6)], ids=str)
def network(request: pytest.FixtureRequest) -> QNetwork:
    torch.manual_seed(0)
    encoder, memory = request.param
    shape = replace(tiny_shape(ITEMS), encoder=encoder, layers=2, memory_features=memory)
    network = QNetwork(shape, temperature=0.1).eval()
    torch.nn.init.normal_(network.states.tokens.event_type.weight)  # zero at first: types would look alike
    if network.tower.memory is not None:
        torch.nn.init.normal_(network.tower.memory.weight)
    return network


def histories(count: int, seed: int = 0) -> list[History]:
    generator = np.random.default_rng(seed)
    return [
        random_history(generator, int(events), ITEMS) for events in generator.integers(0, TIME + 1, count)
    ]


def vectors_of(network: QNetwork | StudentNetwork, batch: list[History]) -> StateVectors:
    with torch.no_grad():
        return network.state_vectors(encode_states(batch, TIME))


def test_a_state_does_not_depend_on_who_shares_the_batch(network: QNetwork) -> None:
    batch = histories(9)
    together = vectors_of(network, batch)
    for row, one in enumerate(batch):
        alone, steps = vectors_of(network, [one]), len(one) + 1
        for name in StateVectors.__dataclass_fields__:
            torch.testing.assert_close(
                getattr(together, name)[row, :steps], getattr(alone, name)[0, :steps], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("column", ["item", "event_type", "reward", "timestamp", "session"])
def test_a_state_knows_nothing_of_what_comes_after_it(network: QNetwork, column: str) -> None:
    history = random_history(np.random.default_rng(1), TIME, ITEMS)
    changed_at = 7
    values = getattr(history, column).copy()
    # everything from the changed event on is another event; the step before it must not notice
    values[changed_at:] = values[changed_at:] + 1 if column != "event_type" else (values[changed_at:] + 1) % 4
    values = values % ITEMS if column == "item" else values
    before = vectors_of(network, [history]).advantage[0]
    after = vectors_of(network, [replace(history, **{column: values})]).advantage[0]
    torch.testing.assert_close(before[: changed_at + 1], after[: changed_at + 1], rtol=0, atol=1e-6)
    if column != "timestamp":  # a later clock changes one gap, other columns change every token
        assert (before[changed_at + 1 :] - after[changed_at + 1 :]).abs().amax(dim=1).min() > 1e-6


def test_the_first_state_knows_the_user_attributes_alone(network: QNetwork) -> None:
    with torch.no_grad():
        network.states.tokens.attributes[0].weight.normal_()
    one, other = histories(2, seed=5)
    same = np.array([1], np.int32)
    first = vectors_of(network, [replace(one, attributes=same), replace(other, attributes=same)]).advantage[
        :, 0
    ]
    torch.testing.assert_close(first[0], first[1])
    elsewhere = vectors_of(network, [replace(one, attributes=np.array([2], np.int32))]).advantage[0, 0]
    assert (first[0] - elsewhere).abs().max() > 1e-4


def test_q_is_value_plus_inner_product_plus_bias(network: QNetwork) -> None:
    with torch.no_grad():
        network.tower.bias.weight.normal_()
        states = vectors_of(network, histories(4))
        item = torch.tensor([3, 0, 39, 7])
        side = network.item_side(item)
        last = StateVectors(*(getattr(states, name)[:, 0] for name in StateVectors.__dataclass_fields__))
        table = q_of_candidates(last.advantage, last.value, side)
        for row in range(4):
            for place, index in enumerate(item.tolist()):
                expected = (
                    last.value[row]
                    + torch.dot(last.advantage[row], network.tower(torch.tensor(index)))
                    + 0.1 * network.tower.bias.weight[index, 0]
                )
                assert float(table[row, place]) == pytest.approx(float(expected), abs=1e-5)
        torch.testing.assert_close(q_of_pairs(last, side), table.diagonal())


def test_an_item_without_history_is_its_content() -> None:
    torch.manual_seed(0)
    tower = ItemTower(3, 2, 4, id_dropout=0.0)
    content = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    known = np.array([1, 1, 0], np.float32)
    tower.start_from(content, np.eye(3, 4, dtype=np.float32), np.array([1, 2, 0], np.float32), known)
    vectors, bias = tower.table()
    torch.testing.assert_close(vectors[2], tower.content_map(tower.content[2]).detach())
    assert (vectors[0] - tower.content_map(tower.content[0])).abs().max() > 0.01
    assert bias.tolist() == [1.0, 2.0, 0.0]


def test_ids_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    tower = ItemTower(5, 2, 4, id_dropout=1.0)
    item = torch.arange(5)
    content_alone = tower.content_map(tower.content)
    torch.testing.assert_close(tower.train()(item), content_alone)
    assert (tower.eval()(item) - content_alone).abs().max() > 0.01
    tower.train()
    vectors, _ = tower.table()
    torch.testing.assert_close(vectors, tower.eval()(item).detach())


def test_the_table_ranks_by_one_inner_product_as_q_does() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, features = torch.randn(9, 4, generator=generator), torch.randn(9, 3, generator=generator)
    bias = torch.randn(9, generator=generator)
    table = ItemTable.of(vectors, bias, features)
    advantage, fast = torch.randn(4, generator=generator), torch.randn(3, generator=generator)
    query = torch.cat([advantage, fast, torch.ones(1)])
    torch.testing.assert_close(table.index_vectors() @ query, vectors @ advantage + features @ fast + bias)
    torch.testing.assert_close(table.mean_vector, vectors.mean(dim=0))
    assert len(table) == 9


def test_a_student_reads_the_items_it_was_handed() -> None:
    torch.manual_seed(0)
    student = StudentNetwork(tiny_shape(ITEMS)).eval()
    batch = histories(3, seed=2)
    blind = vectors_of(student, batch).advantage
    student.vectors = torch.randn(ITEMS, 8)
    assert (vectors_of(student, batch).advantage - blind).abs().max() > 1e-4
    assert "vectors" not in student.state_dict()


def test_a_student_learns_nothing_for_behaviour_and_ranks_all_the_same() -> None:
    torch.manual_seed(0)
    whole = replace(tiny_shape(ITEMS), memory_features=6)
    teacher, student = StudentNetwork(whole).eval(), StudentNetwork(replace(whole, behavior=False)).eval()
    ranks = {name: theirs for name, theirs in teacher.state_dict().items() if "behavior" not in name}
    assert set(student.state_dict()) == set(ranks)
    student.load_state_dict(ranks)
    teacher.vectors = student.vectors = torch.randn(ITEMS, 14)
    batch = histories(5, seed=4)
    told, same = vectors_of(teacher, batch), vectors_of(student, batch)
    for name in ("advantage", "value", "behavior_return"):
        torch.testing.assert_close(getattr(same, name), getattr(told, name), rtol=0, atol=0)
    assert same.behavior.shape[-1] == 0
    assert told.behavior.shape[-1] == 14


def test_a_memory_is_handed_down_to_a_student() -> None:
    torch.manual_seed(0)
    whole = replace(tiny_shape(ITEMS), memory_features=6)
    teacher = StudentNetwork(whole).states.memory
    student = StudentNetwork(replace(whole, behavior=False)).states.memory
    assert teacher is not None
    assert student is not None
    with torch.no_grad():
        teacher.log_readout.normal_()
        teacher.by_reward.fill_(0.3)
    student.hand_down(teacher)
    theirs = teacher.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in student.state_dict().items())
