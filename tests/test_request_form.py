"""What a request runs says what training and evaluation say: numpy against PyTorch, from the same weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.adaptation import AdaptationPrior, FastWeights, adapt_to_first
from recsys.mdp.state import History, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape, without_memory
from recsys.models.request_state import KEPT_LENGTH, RequestState
from recsys.models.small_gram import inverse_factor
from recsys.models.student import StudentNetwork
from recsys.request_form import RequestForm
from tests.factories import tiny_shape
from tests.memory_log import random_history

ITEMS, FEATURES, DISCOUNT = 40, 6, 0.7
# Of the largest number of an array, or of 1: a solve in float32 is no closer in its small numbers.
CLOSE = 1e-5


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    largest = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * largest)


def disturbed(module: torch.nn.Module, generator: torch.Generator, scale: float) -> None:
    """Move every weight off where it starts, zeros among them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def made(
    shape: NetworkShape, seed: int, **of_prior: int
) -> tuple[StudentNetwork, AdaptationPrior, ItemTable]:
    torch.manual_seed(seed)
    student = StudentNetwork(shape).eval()
    prior = AdaptationPrior(FEATURES, shape.event_types, shape.attribute_sizes, **of_prior)
    generator = torch.Generator().manual_seed(seed)
    disturbed(student, generator, 0.3)
    disturbed(prior, generator, 0.3)
    table = ItemTable.of(
        torch.randn(ITEMS, shape.vector_features), torch.randn(ITEMS), torch.randn(ITEMS, FEATURES)
    )
    student.vectors = table.vectors
    return student, prior, table


@torch.no_grad()
def in_torch(
    student: StudentNetwork,
    prior: AdaptationPrior,
    table: ItemTable,
    history: History,
    *,
    adapt: bool,
    memory: bool,
) -> tuple[torch.Tensor, FastWeights]:
    """The query as the batched forms of training and evaluation say it."""
    batch = encode_states([history], student.shape.max_events)
    states, last = student.state_vectors(batch), int(batch.lengths[0])
    if adapt and last:
        fast = adapt_to_first(batch, states, table, prior, batch.lengths, DISCOUNT)
    else:
        fast = prior.before_support(batch.attributes)
    asked = states.advantage[0, last]
    if not memory:
        asked = without_memory(asked, student.shape.item_features)
    return torch.cat([asked, fast.mean[0], torch.ones(1), states.value[0, last, None]]), fast


@given(
    seed=st.integers(0, 2**16),
    events=st.integers(0, 25),  # the state reads 20
    encoder=st.sampled_from([("gated", 1), ("recurrent", 1), ("recurrent", 2), ("attention", 1)]),
    memory_features=st.sampled_from([0, 3, 12]),
    hidden=st.sampled_from([0, 5]),
    n_step=st.integers(1, 4),
    dueling=st.booleans(),
    adapt=st.booleans(),
    memory=st.booleans(),
)
@example(2, 25, ("gated", 1), 12, 5, 3, True, True, True)
@example(1, 20, ("recurrent", 1), 12, 5, 3, True, True, True)
@settings(max_examples=40, deadline=None)
def test_the_query_and_the_posterior_of_a_request_are_those_of_evaluation(
    seed: int,
    events: int,
    encoder: tuple[str, int],
    memory_features: int,
    hidden: int,
    n_step: int,
    dueling: bool,
    adapt: bool,
    memory: bool,
) -> None:
    shape = replace(
        tiny_shape(ITEMS),
        memory_features=memory_features,
        encoder=encoder[0],
        layers=encoder[1],
        dueling=dueling,
    )
    student, prior, table = made(shape, seed, hidden=hidden, n_step=n_step)
    history = random_history(np.random.default_rng(seed), events, ITEMS)
    form = RequestForm(student, prior, table, shape.max_events, DISCOUNT)
    query, fast = form.query(history, adapt=adapt, memory=memory)
    expected, posterior = in_torch(student, prior, table, history, adapt=adapt, memory=memory)
    assert_close(query, expected.numpy())
    assert query.dtype == np.float32
    assert (fast is None) == (not (adapt and events))
    if fast is not None:
        assert_close(fast.mean, posterior.mean[0].numpy())
        assert_close(fast.factor, posterior.factor[0].numpy())
        assert_close(fast.learnt(), posterior.learnt()[0].numpy())
        np.testing.assert_allclose(form.adapted(history).mean, fast.mean)


@given(seed=st.integers(0, 2**16), events=st.integers(1, 20), memory_features=st.sampled_from([0, 12]))
@settings(max_examples=20, deadline=None)
def test_every_state_of_a_history_is_that_of_the_network(
    seed: int, events: int, memory_features: int
) -> None:
    shape = replace(tiny_shape(ITEMS), memory_features=memory_features)
    student, _, table = made(shape, seed)
    history = random_history(np.random.default_rng(seed), events, ITEMS)
    found = RequestState(student).of(history, table.vectors.numpy()[history.item])
    with torch.no_grad():
        expected = student.state_vectors(encode_states([history], 20))
    assert_close(found.advantage, expected.advantage[0].numpy())
    assert_close(found.value, expected.value[0].numpy())
    assert_close(found.behavior_return, expected.behavior_return[0].numpy())


def test_what_lengths_share_is_kept_for_short_histories_only() -> None:
    """So that memory stays bounded however many events a state reads."""
    shape = replace(tiny_shape(ITEMS), memory_features=12, max_events=KEPT_LENGTH + 5)
    student, prior, table = made(shape, 4)
    form = RequestForm(student, prior, table, shape.max_events, DISCOUNT)
    for events in (KEPT_LENGTH + 5, KEPT_LENGTH, 3, 3):
        history = random_history(np.random.default_rng(events), events, ITEMS)
        query, _ = form.query(history, adapt=True, memory=True)
        expected, _ = in_torch(student, prior, table, history, adapt=True, memory=True)
        np.testing.assert_allclose(query, expected.numpy(), rtol=1e-4, atol=1e-4)
    assert set(form._prior._of_size) == {KEPT_LENGTH, 3}
    assert form._state._memory is not None
    assert set(form._state._memory._of_length) == {KEPT_LENGTH, 3}


def test_draws_of_the_posterior_spread_as_its_covariance_says() -> None:
    student, prior, table = made(tiny_shape(ITEMS), 3)
    history = random_history(np.random.default_rng(3), 8, ITEMS)
    form = RequestForm(student, prior, table, 20, DISCOUNT)
    drawn = form.adapted(history).deviations(40_000, np.random.default_rng(0))
    posterior = in_torch(student, prior, table, history, adapt=True, memory=True)[1]
    expected = np.eye(FEATURES) - (posterior.learnt()[0].T @ posterior.learnt()[0]).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), 0.0, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.03)


def test_a_matrix_that_has_no_factor_is_told() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="2 events is not positive definite"):
        inverse_factor(np.array([[1.0, 2.0], [2.0, 1.0]], np.float32), 0.0)
