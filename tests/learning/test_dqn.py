"""Targets held against hand-made tables and against a loop over single transitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config import PretrainConfig
from recsys.learning.checkpoint import load_teacher, save_shape
from recsys.learning.dqn import DQNLearner
from recsys.learning.encoding import returns_to_the_end, step_discounts
from recsys.learning.losses import NegativeSampler
from recsys.learning.next_actions import LikelyActions
from recsys.learning.target_network import frozen_copy, soft_update
from recsys.mdp.state import StateBatch, encode_states
from recsys.models.q_network import QNetwork, states_at
from recsys.models.weights import save_module
from tests.factories import tiny_shape
from tests.memory_log import Event, history, random_history

ITEMS, GAMMA = 40, 0.5


def test_a_soft_update_moves_a_share_of_the_way() -> None:
    torch.manual_seed(0)
    slow, fast = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = [
        0.9 * a.detach() + 0.1 * b.detach() for a, b in zip(slow.parameters(), fast.parameters(), strict=True)
    ]
    soft_update(slow, fast, 0.1)
    for found, wanted in zip(slow.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted)
    soft_update(slow, fast, 1.0)
    for found, wanted in zip(slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_frozen_copy_takes_no_gradient_and_follows_nothing() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    copy = frozen_copy(network)
    assert not copy.training
    assert network.training
    assert not any(p.requires_grad for p in copy.parameters())
    with torch.no_grad():
        network[0].weight.add_(1.0)
    assert (copy[0].weight - network[0].weight).abs().min() > 0.5


def learner(target: str, reach: float = 100.0) -> DQNLearner:
    torch.manual_seed(0)
    network = QNetwork(tiny_shape(ITEMS), temperature=0.1)
    other = QNetwork(tiny_shape(ITEMS), temperature=0.1)
    for either in (network, other):
        torch.nn.init.normal_(either.behavior_bias.weight)
        torch.nn.init.normal_(either.tower.bias.weight)
    settings = PretrainConfig(discount=GAMMA, n_step=2, target=target, bootstrap_candidates=4, negatives=16)
    made = DQNLearner(
        network,
        frozen_copy(other),
        NegativeSampler.from_popularity(np.ones(ITEMS, np.float32)),
        settings,
        (-reach, reach),
        torch.Generator().manual_seed(0),
    )
    made.refresh_index()
    return made


def forget_index(made: DQNLearner) -> None:
    assert isinstance(made.next_actions, LikelyActions)
    made.next_actions.index = None


def sample_batch() -> StateBatch:
    generator = np.random.default_rng(0)
    return encode_states([random_history(generator, events, ITEMS) for events in (5, 2, 7, 1)], 20)


def q_values(network: QNetwork, batch: StateBatch, row: int, state: int) -> torch.Tensor:
    vectors, bias = network.tower.table()
    states = network.state_vectors(batch)
    return states.value[row, state] + vectors @ states.advantage[row, state] + bias * network.temperature


@torch.no_grad()
def looped_td(made: DQNLearner, batch: StateBatch) -> float:
    """One transition at a time, straight from the definition."""
    losses = []
    vectors, _ = made.target.tower.table()
    target_states = made.target.state_vectors(batch)
    for row, length in enumerate(batch.lengths.tolist()):
        for step in range(length):
            steps = min(2, length - step)
            arrival = step + steps
            total = sum(GAMMA**j * float(batch.reward[row, step + j]) for j in range(steps))
            logit = vectors @ target_states.behavior[row, arrival] + made.target.behavior_bias.weight[:, 0]
            candidates = logit.topk(4).indices.tolist()
            if arrival < length:
                candidates.append(int(batch.item[row, arrival]))
            online, target = (q_values(n, batch, row, arrival) for n in (made.network, made.target))
            best_logit = max(float(logit[c]) for c in candidates)
            supported = [c for c in candidates if np.exp(float(logit[c]) - best_logit) >= 0.1]
            bootstrap = float(target[max(supported, key=lambda c: float(online[c]))])
            if made.config.target == "sarsa":
                logged = float(target[batch.item[row, arrival]]) if arrival < length else 0.0
                bootstrap = logged if arrival < length else float(target_states.behavior_return[row, arrival])
            goal = np.clip(total + GAMMA**steps * bootstrap, *made.target_range)
            q = float(q_values(made.network, batch, row, step)[batch.item[row, step]])
            gap = abs(q - goal)
            losses.append(0.5 * gap**2 if gap < 1 else gap - 0.5)
    return float(np.mean(losses))


@pytest.mark.parametrize("reach", [100.0, 0.2])  # the second clips most targets
@pytest.mark.parametrize("target", ["supported_max", "sarsa"])
def test_the_td_loss_is_that_of_a_loop_over_transitions(target: str, reach: float) -> None:
    made, batch = learner(target, reach), sample_batch()
    made.network.eval()
    assert float(made.losses(batch, warmup=False).td) == pytest.approx(looped_td(made, batch), rel=1e-4)


def test_no_gradient_reaches_the_target_network_and_all_of_the_online_one() -> None:
    made = learner("supported_max")
    made.losses(sample_batch(), warmup=False).total.backward()
    assert all(p.grad is None for p in made.target.parameters())
    assert all(p.grad is not None for p in made.network.parameters())


def test_warming_up_learns_no_values() -> None:
    made = learner("supported_max")
    forget_index(made)  # not needed yet
    losses = made.losses(sample_batch(), warmup=True)
    assert losses.td == 0.0
    losses.total.backward()
    assert not made.network.states.scalars.weight.grad[1].any()


def test_values_without_an_index_are_refused() -> None:
    made = learner("supported_max")
    forget_index(made)
    with pytest.raises(RuntimeError, match="refresh_index"):
        made.losses(sample_batch(), warmup=False)


@pytest.mark.parametrize("warmup", [True, False])
def test_a_batch_without_anything_rewarded_has_a_finite_loss(warmup: bool) -> None:
    batch = encode_states([history(Event(1, 0, 0, -1.0, 0), Event(2, 9, 0, 0.0, 2))], 20)
    total = learner("supported_max").losses(batch, warmup=warmup).total
    assert torch.isfinite(total)
    total.backward()


def test_weights_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    made = learner("sarsa").network
    save_module(made, tmp_path / "teacher.safetensors")
    save_shape(made.shape, tmp_path / "teacher.json")
    back = load_teacher(tmp_path, 0.1)
    assert back.shape == made.shape
    batch = sample_batch()
    made.eval(), back.eval()
    torch.testing.assert_close(q_values(back, batch, 0, 2), q_values(made, batch, 0, 2), rtol=0, atol=0)


def test_a_discount_by_time_counts_the_hours_to_the_next_event() -> None:
    hour = 3600
    batch = encode_states(
        [history(Event(1, 0), Event(2, 2 * hour), Event(3, 5 * hour)), history(Event(1))], 20
    )
    found = step_discounts(batch, 0.5, 2.0)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found[0], [0.5, 0.5**1.5, 0.5], rtol=1e-5)  # the last event counts one unit
    assert float(found[1, 0]) == 0.5
    earned, left = returns_to_the_end(batch, found)
    np.testing.assert_allclose(earned[0], [1 + 0.5 * (1 + 0.5**1.5), 1 + 0.5**1.5, 1.0], rtol=1e-5)
    np.testing.assert_allclose(left[0], [0.25 * 0.5**1.5, 0.5 * 0.5**1.5, 0.5], rtol=1e-5)
    assert step_discounts(batch, 0.5, None) == 0.5


def test_windows_bring_weights_and_each_transition_names_its_window() -> None:
    made, batch = learner("sarsa"), sample_batch()
    made.network.eval()
    only = torch.tensor([0.0, 0.0, 1.0, 0.0])
    losses = made.losses(batch, weight=only)
    figures = losses.figures
    assert figures is not None
    assert figures.row is not None
    assert torch.bincount(figures.row).tolist() == batch.lengths.tolist()
    gap = figures.td_error[figures.row == 2]
    huber = torch.where(gap < 1, 0.5 * gap**2, gap - 0.5)
    assert float(losses.td) == pytest.approx(float(huber.sum()) / len(figures.td_error), rel=1e-5)


def test_a_ranker_that_learns_quantiles_serves_their_mean() -> None:
    torch.manual_seed(0)
    network = QNetwork(replace(tiny_shape(ITEMS), quantiles=5, dueling=False), temperature=0.1)
    settings = PretrainConfig(quantiles=5, dueling=False, bootstrap_candidates=4, negatives=16)
    sampler = NegativeSampler.from_popularity(np.ones(ITEMS, np.float32))
    made = DQNLearner(
        network, frozen_copy(network), sampler, settings, (-9, 9), torch.Generator().manual_seed(0)
    )
    made.refresh_index()
    made.losses(sample_batch()).total.backward()
    assert network.states.offsets is not None
    assert network.states.offsets.map.weight.grad is not None
    states = network.state_vectors(sample_batch())
    assert not states.value.any()  # without dueling nothing is said of the state alone
    item = torch.arange(4)
    side = network.item_side(item)
    here = states_at(states, torch.arange(4), torch.zeros(4, dtype=torch.long))
    offsets = network.quantile_offsets(here, item, side)
    torch.testing.assert_close(offsets.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
