"""A target network that stands still is asked once per transition, and the update cannot tell."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.learning.dqn import DQNLearner
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.remembered import RememberedTarget
from recsys.learning.target_network import TargetSchedule, frozen_copy, soft_update
from recsys.mdp.transition import TransitionBatch
from recsys.models.vector_network import VectorNetwork, VectorShape
from tests.truth.tabular import settings as update_settings

TRANSITIONS, FEATURES, ACTIONS = 60, 5, 4


def network(**changes: bool) -> VectorNetwork:
    torch.manual_seed(1)
    return VectorNetwork(VectorShape(FEATURES, ACTIONS, (16, 8), **changes))


def log() -> TransitionBatch:
    chance = torch.Generator().manual_seed(0)
    return TransitionBatch(
        state=torch.randn(TRANSITIONS, FEATURES, generator=chance),
        action=torch.randint(ACTIONS, (TRANSITIONS,), generator=chance),
        n_step_return=torch.randn(TRANSITIONS, generator=chance),
        bootstrap=torch.full((TRANSITIONS,), 0.9),
        next_state=torch.randn(TRANSITIONS, FEATURES, generator=chance),
        next_action=torch.randint(ACTIONS, (TRANSITIONS,), generator=chance),
        weight=torch.ones(TRANSITIONS),
        index=torch.arange(TRANSITIONS),
    )


def drawn(whole: TransitionBatch, index: torch.Tensor) -> TransitionBatch:
    return TransitionBatch(**{name: column[index] for name, column in vars(whole).items()})


@settings(max_examples=20, deadline=None)
@given(
    interval=st.integers(1, 9),
    double=st.booleans(),
    dueling=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_training_with_remembered_states_ends_with_the_same_weights(
    interval: int, double: bool, dueling: bool, seed: int
) -> None:
    config = update_settings(double=double, dueling=dueling)
    whole, ends = log(), []
    for remembers in (False, True):
        learning = network(dueling=dueling)
        target = frozen_copy(learning)
        remembered = RememberedTarget(target, whole.next_state.numpy()) if remembers else None
        chance = torch.Generator().manual_seed(seed)
        learner = DQNLearner(learning, target, None, config, None, chance, remembered=remembered)
        optimizer, schedule = optimizer_for(learning, 0.01, 0.0), TargetSchedule(1.0, interval)
        for update in range(1, 21):
            batch = drawn(whole, torch.randint(TRANSITIONS, (16,), generator=chance))
            step(optimizer, learner.losses(batch).total)
            schedule.follow(target, learning, update)
        ends.append([parameter.detach() for parameter in learning.parameters()])
    for plain, spared in zip(*ends, strict=True):
        torch.testing.assert_close(spared, plain, rtol=1e-4, atol=1e-5)


def test_what_a_moved_network_would_say_is_never_answered_from_memory() -> None:
    target, other = frozen_copy(network()), network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    whole = log()
    remembered = RememberedTarget(target, whole.next_state.numpy())
    before = remembered.q_all(whole.index)
    soft_update(target, other, 1.0)
    after = remembered.q_all(whole.index)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, target.q_all(target(whole.next_state)))


def test_a_next_state_is_encoded_once_until_the_network_moves() -> None:
    target, whole = frozen_copy(network()), log()
    asked: list[int] = []
    target.encoder.register_forward_hook(lambda _module, given, _out: asked.append(len(given[0])))
    remembered = RememberedTarget(target, whole.next_state.numpy())
    for index in (torch.arange(40), torch.arange(20, 60), torch.arange(60)):
        remembered.q_all(index)
    assert asked == [40, 20]
    soft_update(target, network(), 0.5)
    remembered.q_all(whole.index)
    assert asked == [40, 20, TRANSITIONS]


def test_a_batch_that_meets_a_new_state_is_filled_up_with_others_until_all_are_known() -> None:
    target, whole = frozen_copy(network()), log()
    asked: list[int] = []
    target.encoder.register_forward_hook(lambda _module, given, _out: asked.append(len(given[0])))
    remembered = RememberedTarget(target, whole.next_state.numpy())
    for last in range(TRANSITIONS - 1, -1, -1):
        index = torch.arange(16) * 3 % TRANSITIONS
        index[0] = last
        torch.testing.assert_close(
            remembered.q_all(index), target.q_all(target(whole.next_state[index])), rtol=1e-5, atol=1e-6
        )
        asked.pop()  # the test's own question
    assert max(asked) == 16
    assert TRANSITIONS <= sum(asked) <= TRANSITIONS + 16


def test_places_that_were_overwritten_are_asked_again() -> None:
    target, whole = frozen_copy(network()), log()
    states = whole.next_state.numpy().copy()
    remembered = RememberedTarget(target, states)
    remembered.q_all(whole.index)
    states[[3, 41]] = 2.0
    asked: list[int] = []
    target.encoder.register_forward_hook(lambda _module, given, _out: asked.append(len(given[0])))
    remembered.forget(torch.tensor([3, 41]))
    remembered.q_all(torch.tensor([41, 7, 8]))  # the other one is found to fill the batch up
    remembered.q_all(whole.index)
    assert asked == [2]
    torch.testing.assert_close(remembered.q_all(whole.index), target.q_all(target(torch.from_numpy(states))))


@pytest.mark.parametrize("head", [{"behavior": True}, {"return_head": True}, {"quantiles": 3}])
def test_a_network_that_says_more_than_q_is_not_remembered(head: dict[str, int]) -> None:
    target = VectorNetwork(VectorShape(FEATURES, ACTIONS, (8,), **head))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=next(iter(head))):
        RememberedTarget(target, log().next_state.numpy())
