"""The inner loop held against the normal equations, and the guards that keep it honest."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.adaptation import (
    NO_DECAY,
    AdaptationHead,
    AdaptationPrior,
    SupportSet,
    adapt_to_first,
    support_set,
)
from recsys.mdp.state import StateBatch, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import StateVectors
from recsys.models.student import StudentNetwork
from tests.factories import EVENT_TYPES, tiny_shape
from tests.memory_log import random_history

BATCH, SUPPORT, FEATURES, ITEMS = 4, 6, 5, 40
PER_EVENT = [name for name in SupportSet.__dataclass_fields__ if name != "attributes"]


def random_prior(seed: int = 0) -> AdaptationPrior:
    generator = torch.Generator().manual_seed(seed)
    prior = AdaptationPrior(FEATURES, len(EVENT_TYPES))
    with torch.no_grad():
        prior.mean.copy_(torch.randn(FEATURES, generator=generator))
        prior.gain.copy_(torch.rand(len(EVENT_TYPES), generator=generator) + 0.5)
        prior.log_noise.fill_(-0.7)
        prior.growth.fill_(0.3)
        prior.log_decay.fill_(NO_DECAY)
    return prior


def random_support(seed: int = 1, shots: tuple[int, ...] = (6, 3, 1, 0)) -> tuple[torch.Tensor, SupportSet]:
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, SUPPORT)
    support = SupportSet(
        item=torch.randint(0, ITEMS, shape, generator=generator),
        event_type=torch.randint(0, len(EVENT_TYPES), shape, generator=generator),
        reward=torch.randn(shape, generator=generator),
        target=torch.randn(shape, generator=generator),
        mean_q=torch.randn(shape, generator=generator),
        q=torch.randn(shape, generator=generator),
        present=torch.arange(SUPPORT)[None, :] < torch.tensor(shots)[:, None],
        attributes=torch.zeros(BATCH, 0, dtype=torch.long),
    )
    return torch.randn(*shape, FEATURES, generator=generator), support


def test_the_solve_equals_the_normal_equations() -> None:
    prior, (features, support) = random_prior(), random_support()
    fast = prior.adapt(features, support).mean.detach().numpy()
    gain, mean = prior.gain.detach().numpy(), prior.mean.detach().numpy().astype(np.float64)
    mix = 1 / (1 + np.exp(2.0))
    for row, shots in enumerate((6, 3, 1, 0)):
        phi = features[row, :shots].numpy().astype(np.float64)
        q, mean_q = support.q[row, :shots].numpy(), support.mean_q[row, :shots].numpy()
        evidence = gain[support.event_type[row, :shots].numpy()] * (
            support.target[row, :shots].numpy() - mean_q - mix * (q - mean_q)
        )
        evidence = max(shots, 1) ** 0.3 * evidence
        precision = phi.T @ phi + np.exp(-0.7) * np.eye(FEATURES)
        expected = mean + np.linalg.solve(precision, phi.T @ (evidence - phi @ mean))
        np.testing.assert_allclose(fast[row], expected, atol=1e-5)


def test_no_support_leaves_the_prior_exactly() -> None:
    prior = random_prior()
    features, support = random_support(shots=(0, 0, 0, 0))
    assert torch.equal(prior.adapt(features, support).mean, prior.mean.expand(BATCH, -1))


def test_padding_is_no_evidence() -> None:
    _, support = random_support()
    evidence = random_prior().evidence(support).detach()
    assert not evidence[~support.present].any()
    assert evidence[support.present].all()


def test_zero_gain_leaves_a_zero_prior_exactly() -> None:
    prior, (features, support) = random_prior(), random_support()
    with torch.no_grad():
        prior.mean.zero_()
        prior.gain.zero_()
    assert not prior.adapt(features, support).mean.any()


def test_an_event_moves_q_by_more_than_noise() -> None:
    prior, (features, support) = random_prior(), random_support()
    moved = prior.adapt(features, support).mean - prior.mean
    shift = (features * moved[:, None]).sum(-1).abs().detach()
    assert float(shift[:3].mean()) > 0.1
    assert not shift[3].any()


def test_padding_of_the_support_changes_nothing() -> None:
    prior, (features, support) = random_prior(), random_support(shots=(3, 3, 1, 0))
    wide = prior.adapt(features, support).mean
    narrow = replace(support, **{name: getattr(support, name)[:, :3] for name in PER_EVENT})
    torch.testing.assert_close(prior.adapt(features[:, :3], narrow).mean, wide, rtol=1e-5, atol=1e-6)
    other = replace(support, target=torch.where(support.present, support.target, 1e3))
    torch.testing.assert_close(prior.adapt(features, other).mean, wide)


def test_the_order_of_evidence_does_not_matter() -> None:
    prior, (features, support) = random_prior(), random_support(shots=(6, 6, 6, 6))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = replace(support, **{n: getattr(support, n)[:, order] for n in PER_EVENT})
    expected = prior.adapt(features, support).mean
    torch.testing.assert_close(prior.adapt(features[:, order], shuffled).mean, expected, rtol=1e-5, atol=1e-5)


def test_an_event_seen_twice_weighs_more_than_once() -> None:
    prior = random_prior()
    with torch.no_grad():
        prior.mean.zero_()
        prior.growth.zero_()
    features, support = random_support(shots=(2, 1, 0, 0))
    features[:] = features[0, 0]
    for name in ("event_type", "target", "mean_q", "q"):
        getattr(support, name)[:] = getattr(support, name)[0, 0]
    twice, once = prior.adapt(features, support).mean[:2].norm(dim=1)
    assert twice > once > 0


def test_gradients_flow_through_the_solve() -> None:
    features, support = random_support()
    support = replace(support, **{n: getattr(support, n).double() for n in ("target", "mean_q", "q")})
    prior = random_prior().double()
    names = [name for name, _ in prior.named_parameters()]

    def fast_weights(phi: torch.Tensor, target: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        call = (phi, replace(support, target=target))
        adapted = torch.func.functional_call(
            _Adapt(prior), {f"prior.{n}": p for n, p in zip(names, parameters, strict=True)}, call
        )
        return torch.as_tensor(adapted)

    inputs = [features.double(), support.target, *prior.parameters()]
    assert torch.autograd.gradcheck(fast_weights, [x.detach().clone().requires_grad_() for x in inputs])


class _Adapt(torch.nn.Module):
    def __init__(self, prior: AdaptationPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, features: torch.Tensor, support: SupportSet) -> torch.Tensor:
        return self.prior.adapt(features, support).mean


def served() -> tuple[StudentNetwork, ItemTable]:
    torch.manual_seed(0)
    student = StudentNetwork(tiny_shape(ITEMS)).eval().requires_grad_(False)
    table = ItemTable.of(torch.randn(ITEMS, 8), torch.randn(ITEMS), torch.randn(ITEMS, FEATURES))
    student.vectors = table.vectors
    return student, table


def first_events(
    batch: StateBatch, states: StateVectors, table: ItemTable, shots: int, n_step: int = 1
) -> SupportSet:
    vectors, bias = table.vectors[batch.item], table.bias[batch.item]
    means = table.mean_vector, table.mean_bias
    return support_set(batch, states, vectors, bias, *means, torch.tensor([shots]), 0.5, n_step)


def test_evidence_is_what_an_event_returned_against_what_was_expected() -> None:
    student, table = served()
    batch = encode_states([random_history(np.random.default_rng(0), 4, ITEMS)], 20)
    states = student.state_vectors(batch)
    item = batch.item
    support = first_events(batch, states, table, 3)
    assert support.present.tolist() == [[True, True, True, False]]
    for step in range(3):
        every_q = states.value[0, step] + table.vectors @ states.advantage[0, step] + table.bias
        assert float(support.mean_q[0, step]) == pytest.approx(float(every_q.mean()), abs=1e-5)
        assert float(support.q[0, step]) == pytest.approx(float(every_q[item[0, step]]), abs=1e-5)
        target = batch.reward[0, step] + 0.5 * states.behavior_return[0, step + 1]
        assert float(support.target[0, step]) == pytest.approx(float(target), abs=1e-6)


def test_adapting_to_the_first_events_reads_no_later_one() -> None:
    student, table = served()
    generator = np.random.default_rng(4)
    histories = [random_history(generator, events, ITEMS) for events in (9, 5, 7)]
    prior, shots = random_prior(), torch.tensor([3, 5, 0])
    long = encode_states(histories, 20)
    short = encode_states([h.first(k) for h, k in zip(histories, shots.tolist(), strict=True)], 20)
    with torch.no_grad():
        whole = adapt_to_first(long, student.state_vectors(long), table, prior, shots, 0.5).mean
        prefix = adapt_to_first(short, student.state_vectors(short), table, prior, shots, 0.5).mean
    torch.testing.assert_close(whole, prefix, rtol=1e-5, atol=1e-6)
    assert torch.equal(whole[2], prior.mean)


def test_features_are_factors_whitened_by_the_prior_precision() -> None:
    head = AdaptationHead(ITEMS, 3, AdaptationPrior(FEATURES, len(EVENT_TYPES)))
    with torch.no_grad():
        head.factors.normal_()
        head.content.normal_()
        head.log_precision.copy_(torch.log(torch.tensor([1.0, 4.0, 9.0, 16.0, 25.0])))
    item = torch.tensor([[1, 2], [3, 1]])
    expected = head.factors[item] / torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    torch.testing.assert_close(head.item_features(item), expected)


def test_old_evidence_weighs_less_where_the_prior_forgets() -> None:
    prior, (features, support) = random_prior(), random_support(shots=(6, 3, 1, 0))
    with torch.no_grad():
        prior.log_decay.fill_(0.0)
    forgetting = float(np.exp(-np.log(2.0)))
    fast = prior.adapt(features, support)
    evidence = prior.evidence(support).detach().numpy()
    start = prior.mean.detach().numpy().astype(np.float64)
    for row, shots in enumerate((6, 3, 1, 0)):
        phi = features[row, :shots].numpy().astype(np.float64)
        weight = forgetting ** np.arange(shots)[::-1] / np.exp(-0.7)
        precision = np.eye(FEATURES) + (phi.T * weight) @ phi
        expected = start + np.linalg.solve(
            precision, (phi.T * weight) @ (evidence[row, :shots] - phi @ start)
        )
        np.testing.assert_allclose(fast.mean[row].detach().numpy(), expected, atol=1e-5)
        asked = np.random.default_rng(row).normal(size=(7, FEATURES))
        variance = fast.variance(torch.from_numpy(asked.astype(np.float32)))[row].detach().numpy()
        np.testing.assert_allclose(
            variance, np.einsum("id,de,ie->i", asked, np.linalg.inv(precision), asked), rtol=1e-4
        )


@pytest.mark.parametrize("n_step", [1, 2, 3, 10])
def test_returns_end_with_the_support_and_bootstrap_there(n_step: int) -> None:
    student, table = served()
    batch = encode_states([random_history(np.random.default_rng(0), 6, ITEMS)], 20)
    states = student.state_vectors(batch)
    shots, discount = 4, 0.5
    support = first_events(batch, states, table, shots, n_step)
    for step in range(shots):
        ahead = min(n_step, shots - step)
        expected = sum(discount**j * float(batch.reward[0, step + j]) for j in range(ahead))
        expected += discount**ahead * float(states.behavior_return[0, step + ahead])
        assert float(support.target[0, step]) == pytest.approx(expected, abs=1e-6)


def test_weak_negatives_are_part_of_the_precision() -> None:
    head = AdaptationHead(ITEMS, 3, AdaptationPrior(FEATURES, len(EVENT_TYPES)))
    with torch.no_grad():
        head.factors.normal_()
        head.log_negatives.fill_(0.7)
    plain = head.item_features(torch.arange(ITEMS)).detach().double().numpy()
    head.refresh_gramian()
    mapped = head.item_features(torch.arange(ITEMS)).detach().double().numpy()
    precision = np.eye(FEATURES) + np.exp(0.7) * plain.T @ plain / ITEMS
    np.testing.assert_allclose(mapped @ mapped.T, plain @ np.linalg.solve(precision, plain.T), atol=1e-5)


def amortised_prior(seed: int = 5) -> AdaptationPrior:
    torch.manual_seed(seed)
    prior = AdaptationPrior(FEATURES, len(EVENT_TYPES), (2, 3), 4)
    assert prior.amortised is not None
    with torch.no_grad():
        for table in prior.amortised.attributes:
            table.weight[1:].normal_()
        prior.amortised.write.weight.normal_()
    return prior


def test_without_support_an_amortised_start_reads_attributes_alone() -> None:
    prior = amortised_prior()
    features, support = random_support(shots=(0, 0, 0, 0))
    support = replace(support, attributes=torch.tensor([[0, 0], [1, 0], [0, 3], [2, 1]]))
    start = prior.without_support(support.attributes)
    assert torch.equal(prior.adapt(features, support).mean, start)
    assert torch.equal(start[0], prior.mean)  # nothing is known of this user
    assert not torch.allclose(start[1], start[2])


def test_an_amortised_start_knows_no_order() -> None:
    prior, (features, support) = amortised_prior(), random_support(shots=(6, 6, 6, 6))
    support = replace(support, attributes=torch.zeros(BATCH, 2, dtype=torch.long))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = replace(support, **{n: getattr(support, n)[:, order] for n in PER_EVENT})
    torch.testing.assert_close(prior.start(features[:, order], shuffled), prior.start(features, support))


@pytest.mark.parametrize("prior", [random_prior(), amortised_prior()])
def test_a_prior_comes_back_from_its_weights(prior: AdaptationPrior) -> None:
    back = AdaptationPrior.from_weights(prior.state_dict())
    features, support = random_support()
    width = 0 if prior.amortised is None else 2
    support = replace(support, attributes=torch.ones(BATCH, width, dtype=torch.long))
    assert torch.equal(back.adapt(features, support).mean, prior.adapt(features, support).mean)


def test_a_prior_of_an_older_bundle_forgets_nothing() -> None:
    weights = {n: w for n, w in random_prior().state_dict().items() if n not in ("log_decay", "n_step")}
    features, support = random_support()
    expected = random_prior().adapt(features, support).mean
    assert torch.equal(AdaptationPrior.from_weights(weights).adapt(features, support).mean, expected)
