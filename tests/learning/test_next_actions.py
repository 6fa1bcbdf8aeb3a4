"""Candidates of next states: who they are, which of them count, and what is expected of them."""

import numpy as np
import pytest
import torch

from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.encoding import EncodedTransitions
from recsys.learning.losses import NegativeSampler
from recsys.learning.next_actions import BestActions, LikelyActions, behavior_index, found
from recsys.learning.target_network import frozen_copy
from recsys.mdp.state import StateBatch, encode_states
from recsys.mdp.transition import TransitionBatch
from recsys.models.q_network import QNetwork
from recsys.models.vector_network import VectorNetwork, VectorShape
from tests.factories import tiny_shape
from tests.memory_log import random_history

ITEMS = 40


def network(seed: int) -> QNetwork:
    torch.manual_seed(seed)
    made = QNetwork(tiny_shape(ITEMS), temperature=0.1).eval()
    for table in (made.behavior_bias, made.tower.bias):
        torch.nn.init.normal_(table.weight)
    return made


def learner(policy: QNetwork | None = None, **changes: object) -> DQNLearner:
    settings = PretrainConfig.model_validate({"n_step": 2, "negatives": 16, **changes})
    sampler = NegativeSampler.from_popularity(np.ones(ITEMS, np.float32))
    chance = torch.Generator().manual_seed(0)
    made = DQNLearner(network(0), frozen_copy(network(1)), sampler, settings, None, chance, policy=policy)
    made.refresh_index()
    return made


def a_batch() -> StateBatch:
    generator = np.random.default_rng(0)
    return encode_states([random_history(generator, events, ITEMS) for events in (5, 2, 7, 1)], 20)


@torch.no_grad()
def transitions_of(made: DQNLearner) -> EncodedTransitions:
    return made._encoded(a_batch(), None).transitions()


def q_table(of: QNetwork, advantage: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    vectors, bias = of.tower.table()
    return value[:, None] + advantage @ vectors.T + bias * of.temperature


def test_likely_actions_are_those_of_the_behaviour_head() -> None:
    target = frozen_copy(network(1))
    query = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    vectors, _ = target.tower.table()
    logits = query @ vectors.T + target.behavior_bias.weight[:, 0]
    assert found(behavior_index(target), query, 5).tolist() == logits.topk(5).indices.tolist()


@torch.no_grad()
def test_the_expectation_where_the_log_was_cut_counts_every_action_once() -> None:
    """Σ_a π_b(a | s) Q⁻(s, a) over the whole catalogue, computed without candidates."""
    made = learner(target="sarsa", truncated_sarsa="expected", bootstrap_candidates=ITEMS)
    transitions = transitions_of(made)
    got = made._value_after_the_log(transitions, made.next_actions.of(transitions))
    there, target = transitions.through_target(), made.target
    assert isinstance(target, QNetwork)
    logit = there.behavior @ target.tower.table()[0].T + target.behavior_bias.weight[:, 0]
    wanted = (logit.softmax(1) * q_table(target, there.advantage, there.value)).sum(1)
    cut = transitions.next_action < 0
    assert 0 < int(cut.sum()) < len(cut)
    torch.testing.assert_close(got[cut], wanted[cut], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_what_a_cell_did_not_hold_is_no_candidate() -> None:
    class Sparse:
        def search(self, query: object, count: int) -> tuple[np.ndarray, np.ndarray]:
            found = np.full((len(query), count), -1)  # type: ignore[arg-type]
            found[:, 0] = 3
            return found, np.zeros(found.shape, np.float32)

    made = learner(bootstrap_candidates=4)
    assert isinstance(made.next_actions, LikelyActions)
    made.next_actions.index = Sparse()  # type: ignore[assignment]
    transitions = transitions_of(made)
    candidates = made.next_actions.of(transitions)
    assert candidates.item is not None
    assert candidates.allowed is not None
    logged = (transitions.next_action >= 0).tolist()
    assert candidates.allowed.tolist() == [[known, True, False, False, False] for known in logged]
    value, _, _ = made._next_value(transitions)
    assert torch.isfinite(value).all()


@torch.no_grad()
@pytest.mark.parametrize("candidates", [1, 20])
def test_a_policy_that_is_evaluated_takes_the_best_of_all_items_whatever_is_likely(candidates: int) -> None:
    policy = network(2)
    made = learner(policy, target="max", bootstrap_candidates=candidates)
    assert isinstance(made.next_actions, BestActions)
    transitions = transitions_of(made)
    states, there = policy.state_vectors(a_batch()), transitions.there
    assert there is not None
    assert not torch.equal(there.value, transitions.here.value)
    assert float(there.value.min()) >= float(states.value.min())  # they are the policy's own states
    by_policy = q_table(policy, there.advantage, there.value)
    assert isinstance(made.target, QNetwork)
    through = transitions.through_target()
    by_target = q_table(made.target, through.advantage, through.value)
    value, most, unsupported = made._next_value(transitions)
    torch.testing.assert_close(value, by_target.gather(1, by_policy.argmax(1, keepdim=True))[:, 0])
    torch.testing.assert_close(most, by_policy.amax(1))
    assert unsupported is None


@torch.no_grad()
def test_an_action_that_a_state_forbids_is_never_supported() -> None:
    """A threshold of 0 supports what the log never took, and still nothing that the mask rules out."""
    shape = VectorShape(3, 3, (4,), behavior=True)
    torch.manual_seed(0)
    online = VectorNetwork(shape)
    target = frozen_copy(VectorNetwork(shape))
    forbidden = torch.tensor([True, True, False])
    made = DQNLearner(
        online, target, None,
        PretrainConfig(support_threshold=0.0, conservative_weight=0.0, return_weight=0.0),
        None, torch.Generator().manual_seed(0), mask=lambda state: forbidden.expand(len(state), 3),
    )  # fmt: skip
    online.actions.bias[2] = target.actions.bias[2] = 100.0
    state = torch.randn(6, 3)
    batch = TransitionBatch(
        state=state, action=torch.zeros(6).long(), n_step_return=torch.zeros(6), bootstrap=torch.ones(6),
        next_state=state, next_action=torch.zeros(6).long(), weight=torch.ones(6), index=torch.arange(6),
    )  # fmt: skip
    value, most, _ = made._next_value(made._encoded(batch, None).transitions())
    assert float(value.max()) < 50.0
    assert float(most.max()) < 50.0
