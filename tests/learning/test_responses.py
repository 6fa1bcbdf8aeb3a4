"""What the response head is told, and what it comes to say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config import PretrainConfig
from recsys.learning.checkpoint import load_teacher, save_shape
from recsys.learning.dqn import DQNLearner
from recsys.learning.encoding import WindowEncoding
from recsys.learning.losses import NegativeSampler
from recsys.learning.target_network import frozen_copy
from recsys.mdp.state import StateBatch, encode_states
from recsys.models.q_network import QNetwork, states_at
from recsys.models.weights import save_module
from tests.factories import EVENT_TYPES, tiny_shape
from tests.memory_log import Event, history, random_history

ITEMS = 6
CLICK, IMPRESSION = EVENT_TYPES.index("click"), EVENT_TYPES.index("impression")


def network_of(items: int, *, responses: bool) -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(replace(tiny_shape(items), responses=responses), temperature=0.1)


def learner(network: QNetwork, **changes: object) -> DQNLearner:
    made = DQNLearner(
        network,
        frozen_copy(network),
        NegativeSampler.from_popularity(np.ones(network.shape.items, np.float32)),
        PretrainConfig(**{"bootstrap_candidates": 4, "negatives": 8, "response_weight": 1.0, **changes}),
        None,
        torch.Generator().manual_seed(0),
    )
    made.refresh_index()
    return made


def random_batch(items: int) -> StateBatch:
    generator = np.random.default_rng(0)
    return encode_states([random_history(generator, events, items) for events in (5, 2, 7, 1)], 20)


def test_the_loss_is_the_cross_entropy_of_every_answer_given_what_came_before_it() -> None:
    network = network_of(40, responses=True).eval()
    made, batch = learner(network), random_batch(40)
    each = []
    with torch.no_grad():
        states = network.state_vectors(batch)
        for row, length in enumerate(batch.lengths.tolist()):
            for place in range(length):
                here = states_at(states, torch.tensor([row]), torch.tensor([place]))
                logit = network.response_logits(here, batch.item[row, place][None])[0]
                each.append(-logit.log_softmax(0)[int(batch.event_type[row, place])])
        losses, warming = made.losses(batch), made.losses(batch, warmup=True)
    assert float(losses.response) == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)
    assert float(warming.response) == pytest.approx(float(losses.response), rel=1e-5)


def test_importance_weights_of_windows_weigh_their_answers() -> None:
    network = network_of(40, responses=True).eval()
    made, batch = learner(network), random_batch(40)
    weight = torch.tensor([2.0, 0.0, 0.5, 1.0])
    alone = [float(made.losses(one).response) for one in rows_of(batch)]
    lengths = batch.lengths.float()
    wanted = float((torch.tensor(alone) * lengths * weight).sum() / lengths.sum())
    assert float(made.losses(batch, weight=weight).response) == pytest.approx(wanted, rel=1e-5)


def rows_of(batch: StateBatch) -> list[StateBatch]:
    names = StateBatch.__dataclass_fields__
    return [StateBatch(**{name: getattr(batch, name)[i : i + 1] for name in names}) for i in range(4)]


def test_a_weight_of_nothing_asks_and_changes_nothing() -> None:
    batch = random_batch(40)
    plain, with_head = network_of(40, responses=False), network_of(40, responses=True)
    with_head.load_state_dict(plain.state_dict(), strict=False)
    first, second = (
        learner(network.eval(), response_weight=0.0).losses(batch) for network in (plain, with_head)
    )
    assert float(first.response) == 0.0
    assert float(first.total.detach()) == float(second.total.detach())


def test_it_learns_how_likely_each_segment_answers_each_item() -> None:
    truth = np.random.default_rng(1).uniform(0.1, 0.9, (2, ITEMS))
    network = network_of(ITEMS, responses=True)
    made = learner(network, td_weight=0.0, return_weight=0.0, supervised_weight=1.0, conservative_weight=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    generator = np.random.default_rng(2)
    for update in range(500):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - update / 500)
        optimizer.zero_grad()
        made.losses(answered(truth, generator, 64), warmup=True).total.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        states = network.state_vectors(answered(truth, generator, 2))
        for segment in range(2):
            start = states_at(states, torch.full((ITEMS,), segment), torch.zeros(ITEMS, dtype=torch.int64))
            told = network.response_logits(start, torch.arange(ITEMS)).softmax(1)[:, CLICK].numpy()
            np.testing.assert_allclose(told, truth[segment], atol=0.06)


def answered(truth: np.ndarray, generator: np.random.Generator, users: int) -> StateBatch:
    """Four items shown at random to users who are of one segment or the other by turns."""
    histories = []
    for user in range(users):
        item = generator.integers(ITEMS, size=4)
        clicked = generator.random(4) < truth[user % 2, item]
        events = [
            Event(int(one), 60 * place, 0, float(yes), CLICK if yes else IMPRESSION)
            for place, (one, yes) in enumerate(zip(item, clicked, strict=True))
        ]
        histories.append(history(*events, attribute=user % 2))
    return encode_states(histories, 20)


def test_without_the_head_nobody_answers() -> None:
    network = network_of(40, responses=False)
    with pytest.raises(RuntimeError, match="without a response head"):
        learner(network).losses(random_batch(40))


def test_places_are_drawn_where_a_batch_holds_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.learning.encoding.MAX_SUPERVISED_STATES", 6)
    network = network_of(40, responses=True)
    made, batch = learner(network), random_batch(40)
    encoding = WindowEncoding(network, made.target, batch, made.config, made.generator, made.device)
    found = encoding.responses()
    assert found.item.shape == found.event_type.shape == (6,)
    logged = set(
        zip(batch.item[batch.present].tolist(), batch.event_type[batch.present].tolist(), strict=True)
    )
    assert set(zip(found.item.tolist(), found.event_type.tolist(), strict=True)) <= logged


def test_a_teacher_is_read_back_with_its_head(tmp_path: Path) -> None:
    network = network_of(40, responses=True).eval()
    save_shape(network.shape, tmp_path / "teacher.json")
    save_module(network, tmp_path / "teacher.safetensors")
    again, batch = load_teacher(tmp_path, 0.1), random_batch(40)
    assert float(learner(again).losses(batch).response) == float(learner(network).losses(batch).response)
