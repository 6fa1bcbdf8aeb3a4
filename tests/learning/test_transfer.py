"""What one log's teacher says of another's catalogue: exact for the same item, by content for others, by counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from pipelines.finetune_teacher import taught_items
from recsys.config import FactorsConfig
from recsys.learning.factors import cooccurrence_factors
from recsys.learning.freezing import freeze, hold_rows, parameters_of
from recsys.learning.growth import follow_popularity, grown_teacher, placed
from recsys.learning.optimizer import grouped_optimizer, step
from recsys.learning.transfer import Source, carry, prior_rows, warm_start
from recsys.models.q_network import NetworkShape, QNetwork

SHAPE = NetworkShape(
    items=40,
    content_features=6,
    item_features=4,
    hidden=5,
    layers=1,
    encoder="recurrent",
    event_types=2,
    attribute_sizes=(3,),
    max_events=10,
    dropout=0.0,
    id_dropout=0.0,
    memory_features=3,
)


def teacher(shape: NetworkShape = SHAPE, seed: int = 0) -> QNetwork:
    torch.manual_seed(seed)
    network = QNetwork(shape, 0.1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def source_of(linear: bool) -> tuple[Source, np.ndarray]:
    """Return a source whose memory factors follow from content exactly, or not at all, and the map."""
    chance = np.random.default_rng(0)
    content = chance.standard_normal((40, 6)).astype(np.float32)
    mapped = chance.standard_normal((6, 3)).astype(np.float32)
    factors = content @ mapped if linear else chance.standard_normal((40, 3)).astype(np.float32)
    network = teacher()
    assert network.tower.memory is not None
    with torch.no_grad():
        network.tower.memory.weight.copy_(torch.from_numpy(factors))
    popularity = np.full(40, 5.0, np.float32)
    names = [f"s{place}" for place in range(40)]
    return Source(network, names, content, popularity, 50, ("click", "purchase")), mapped


def test_the_same_item_keeps_its_factors_and_content_tells_those_of_others():
    source, mapped = source_of(linear=True)
    content = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    carried = carry(source, ["s7", "", "new", "s3"], content, np.array([1.0, 1.0, 0.5, 1.0], np.float32))
    assert carried.row.tolist() == [7, -1, -1, 3]
    table = source.teacher.tower.memory.weight.detach().numpy()
    assert carried.memory[[0, 3]] == pytest.approx(table[[7, 3]])
    assert carried.explained > 0.9
    wanted = content[1] @ mapped * carried.trust[1]
    assert carried.memory[1] @ wanted / (np.linalg.norm(carried.memory[1]) * np.linalg.norm(wanted)) > 0.99
    assert carried.trust[2] == pytest.approx(0.5 * carried.trust[1])
    assert carried.share[0] == pytest.approx(5 / 50)
    assert carried.matched == 2


def test_content_that_tells_nothing_is_not_trusted():
    source, _ = source_of(linear=False)
    content = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    carried = carry(source, [""] * 5, content, np.ones(5, np.float32))
    assert carried.explained < 0.1
    assert (
        np.abs(carried.memory).max() < 0.2 * np.abs(source.teacher.tower.memory.weight.detach().numpy()).max()
    )


def test_an_item_that_the_source_never_sold_is_no_match():
    source, _ = source_of(linear=True)
    popularity = source.popularity.copy()
    popularity[7] = 0
    carried = carry(
        replace(source, popularity=popularity), ["s7"], source.content[7:8], np.ones(1, np.float32)
    )
    assert carried.matched == 0


def test_rows_beside_the_histories_weigh_what_is_asked_and_fade():
    source, _ = source_of(linear=True)
    carried = carry(source, [f"s{place}" for place in range(40)], source.content, np.ones(40, np.float32))
    rows = prior_rows(carried, source.content, 50.0, 20.0)
    assert np.square(rows[:3]).sum() == pytest.approx(50.0, rel=1e-5)
    assert np.square(rows[3:]).sum() == pytest.approx(20.0, rel=1e-5)
    settings = FactorsConfig(features=8, smoothing=0.0)
    none = sparse.csr_matrix((0, 40), dtype=np.float32)
    alone = cooccurrence_factors(none, settings, 0, rows[:3])
    wanted = carried.memory @ carried.memory.T
    found = alone @ alone.T
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9
    chance = np.random.default_rng(2)
    matrix = sparse.csr_matrix((chance.random((4000, 40)) < 0.2).astype(np.float32))
    plain = cooccurrence_factors(matrix, settings, 0)
    beside = cooccurrence_factors(matrix, settings, 0, prior_rows(carried, source.content, 0.01, 0.0))
    assert beside @ beside.T == pytest.approx(plain @ plain.T, abs=1e-2)


def test_a_warm_teacher_is_the_sources_but_for_its_items():
    source, _ = source_of(linear=True)
    shape = replace(SHAPE, items=7, event_types=3, attribute_sizes=(2, 2))
    network = teacher(shape, seed=1)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    content = np.zeros((7, 6), np.float32)
    carried = carry(source, ["s1"] + [""] * 6, content, np.zeros(7, np.float32))
    warm_start(network, source, carried, ("purchase", "rating", "click"))
    theirs, ours = source.teacher.state_dict(), network.state_dict()
    for name in ("states.encoder.gru.weight_hh_l0", "states.advantage.weight"):
        assert ours[name].equal(theirs[name])
    assert ours["tower.content_map.weight"] == pytest.approx(theirs["tower.content_map.weight"] / 7, abs=1e-6)
    kinds = ours["states.tokens.event_type.weight"]
    assert kinds[0].equal(theirs["states.tokens.event_type.weight"][1])  # purchase
    assert kinds[1].equal(fresh["states.tokens.event_type.weight"][1])  # rating: unknown to the source
    assert ours["tower.id_embedding.weight"][0].equal(theirs["tower.id_embedding.weight"][1])
    assert ours["tower.id_embedding.weight"][1:].equal(fresh["tower.id_embedding.weight"][1:])
    assert ours["tower.bias.weight"].equal(fresh["tower.bias.weight"])
    readout = ours["states.memory.log_readout"]
    assert readout.unique().numel() == 1  # one item in common: coordinates say nothing


def test_how_items_are_answered_is_learnt_anew():
    source, _ = source_of(linear=True)
    network = teacher(replace(SHAPE, items=7, event_types=3, responses=True), seed=1)
    before = network.states.responses.map.weight.detach().clone()
    carried = carry(source, [""] * 7, np.zeros((7, 6), np.float32), np.zeros(7, np.float32))
    warm_start(network, source, carried, ("click", "impression", "purchase"))
    assert network.states.responses.map.weight.equal(before)


def test_another_network_is_refused_by_name():
    source, _ = source_of(linear=True)
    network = teacher(replace(SHAPE, hidden=6), seed=1)
    carried = carry(source, [""] * 40, source.content, np.zeros(40, np.float32))
    with pytest.raises(ValueError, match=r"states\.\S+ is \(.*\), in the source \("):
        warm_start(network, source, carried, ("click", "purchase"))


def test_frozen_parts_stay_and_the_rest_learns():
    network = teacher()
    freeze(network, ("memory", "encoder"))
    for part in ("memory", "encoder"):
        assert not any(parameter.requires_grad for parameter in parameters_of(network, part))
    for part in ("vectors", "heads"):
        assert all(parameter.requires_grad for parameter in parameters_of(network, part))
    freeze(network, ())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("sparse_rows", [False, True])
def test_held_rows_stay_to_the_bit_while_new_ones_learn(sparse_rows):
    network = teacher()
    network.tower.id_embedding.sparse = sparse_rows
    known = torch.arange(40) < 30
    freeze(network, ("vectors",), known)
    before = network.tower.id_embedding.weight.detach().clone()
    hooks = hold_rows(network, known)
    table = network.tower.id_embedding.weight
    optimizer = grouped_optimizer([([table], 0.1, 0.0)])
    for _ in range(3):
        step(optimizer, network.tower(torch.arange(40)).square().sum())
    assert table[:30].equal(before[:30])
    assert not (table[30:] == before[30:]).all(dim=1).any()
    for hook in hooks:
        hook.remove()
    step(optimizer, network.tower(torch.arange(40)).square().sum())
    assert not table[:30].equal(before[:30])


def test_a_grown_teacher_is_the_same_for_known_items_and_new_factors_fit_theirs():
    network = teacher()
    content = np.concatenate([network.tower.content.numpy(), np.ones((5, 6), np.float32)])
    grown = grown_teacher(network, content)
    assert grown.tower.table()[0][:40].equal(network.tower.table()[0])
    chance = np.random.default_rng(3)
    true = chance.standard_normal((45, 3)).astype(np.float32)
    turned = true @ np.linalg.qr(chance.standard_normal((3, 3)))[0].astype(np.float32)
    known = np.arange(45) < 40
    before = np.where(known[:, None], true, 0).astype(np.float32)
    assert placed(turned, before, known) == pytest.approx(true, abs=1e-4)


def test_biases_follow_popularity_at_an_unchanged_level():
    network = teacher()
    before = np.arange(40, dtype=np.float32)
    known = before > 0
    network.tower.bias.weight.data.copy_(torch.from_numpy(np.log1p(before))[:, None] + 0.5)
    now = before * 2 + 1
    now[5] = 200
    was = network.tower.bias.weight.detach().clone()
    follow_popularity(network, before, now, known, of_values=True)
    moved = (network.tower.bias.weight - was)[:, 0].detach()
    assert float(moved[known].mean()) == pytest.approx(0.0, abs=1e-5)
    assert int(moved[known].argmax()) == 4  # the fifth of those with a history
    level = float((np.log1p(now) - np.log1p(before))[known].mean())
    assert network.tower.bias.weight[0, 0].item() == pytest.approx(np.log(2) - level + 0.5, abs=1e-5)


def test_a_q_that_started_from_content_knows_nothing_of_popularity_afterwards_either():
    network = teacher()
    known = np.arange(40) < 38
    before, now = known * 9.0, np.arange(40) * 7.0
    learnt = torch.linspace(-0.1, 0.1, 40)[:, None] * torch.from_numpy(known)[:, None]
    network.tower.bias.weight.data.copy_(learnt)
    logits = network.behavior_bias.weight.detach().clone()
    follow_popularity(network, before.astype(np.float32), now.astype(np.float32), known, of_values=False)
    assert network.tower.bias.weight[:38].equal(learnt[:38])
    assert network.tower.bias.weight[38:].flatten().tolist() == pytest.approx([float(learnt[:38].mean())] * 2)
    moved = (network.behavior_bias.weight - logits)[:38, 0].detach()
    assert float(moved.max() - moved.min()) == pytest.approx(np.log(1 + 37 * 7), abs=1e-5)


def test_an_item_that_only_the_new_tasks_had_has_learnt_nothing_and_is_free_to():
    """Statistics count the users of the outer loop, pretraining's own items are those that it marked as known."""
    network = teacher()
    content = network.tower.content.numpy()
    had = np.ones(40, np.float32)
    with torch.no_grad():
        network.tower.known.copy_((torch.arange(40) < 38).float())
    grown, known = taught_items(network, content, had, had, of_values=True)
    assert known.tolist() == [True] * 38 + [False] * 2
    assert grown.tower.known.tolist() == [1.0] * 40
