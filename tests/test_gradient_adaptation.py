"""Inner loops by gradient: where they must agree with the closed form, and what may move."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from recsys.adaptation import AdaptationPrior, SupportSet
from recsys.errors import UserError
from recsys.gradient_adaptation import GradientLoop, HeadKind
from tests.factories import EVENT_TYPES
from tests.test_adaptation import BATCH, FEATURES, random_support

KINDS = get_args(HeadKind)


def loop(kind: HeadKind, steps: int = 3, rate: float = 0.05, second_order: bool = True) -> GradientLoop:
    torch.manual_seed(0)
    prior = AdaptationPrior(FEATURES, len(EVENT_TYPES)).double()
    made = GradientLoop(prior, kind, steps, hidden=4, context=3, second_order=second_order).double()
    with torch.no_grad():
        for value in made.log_rate.values():
            value.fill_(torch.log(torch.tensor(rate)))
        for name, value in made.start_at.items():
            if name != "context":
                value.normal_(std=0.3)
    return made


def support() -> tuple[torch.Tensor, SupportSet]:
    features, told = random_support()
    as_double = {
        name: value.double()
        for name, value in vars(told).items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    return features.double(), replace(told, **as_double)


def test_many_steps_of_a_linear_head_end_at_the_closed_form() -> None:
    features, told = support()
    made = loop("head", steps=4000, rate=0.01)
    with torch.no_grad():
        made.told.mean.copy_(made.start_at["linear"])
        expected = made.told.adapt(features, told)
        found = made.adapt(features, told)
    torch.testing.assert_close(found.moved["linear"], expected.mean, rtol=1e-6, atol=1e-6)
    items = torch.randn(7, FEATURES, dtype=torch.float64)
    torch.testing.assert_close(found.shift(items), expected.shift(items), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_support_leaves_the_start_exactly(kind: HeadKind) -> None:
    features, told = support()
    made, items = loop(kind), torch.randn(5, FEATURES, dtype=torch.float64)
    nothing = replace(told, present=torch.zeros_like(told.present))
    before, after = made.before_support(told.attributes), made.adapt(features, nothing)
    for name, value in before.moved.items():
        assert torch.equal(after.moved[name], value)
    # a product over copies of one head may round otherwise than one over the head itself
    torch.testing.assert_close(after.shift(items), before.shift(items), rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_support_moves_q(kind: HeadKind) -> None:
    features, told = support()
    made, items = loop(kind), torch.randn(5, FEATURES, dtype=torch.float64)
    if kind == "context":
        torch.nn.init.normal_(made.write.weight)
    moved = made.adapt(features, told).shift(items) - made.before_support(told.attributes).shift(items)
    assert moved[0].abs().mean() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_told_what_the_whole_catalogue_is(kind: HeadKind) -> None:
    features, told = support()
    fast, items = loop(kind).adapt(features, told), torch.randn(5, FEATURES, dtype=torch.float64)
    row = torch.tensor([0, 2, 1])
    torch.testing.assert_close(fast.shift_of(row, items[:3]), fast.shift(items)[row, torch.arange(3)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_outer_gradient_is_that_of_finite_differences(kind: HeadKind) -> None:
    features, told = support()
    made, items = loop(kind), torch.randn(2, FEATURES, dtype=torch.float64)
    said = torch.randn(BATCH, 2, dtype=torch.float64)
    if kind == "context":
        torch.nn.init.normal_(made.write.weight)

    def loss() -> torch.Tensor:
        return (made.adapt(features, told).shift(items) - said).square().mean()

    for name, parameter in made.named_parameters():
        if name.startswith("told") or not parameter.requires_grad:
            continue
        made.zero_grad()
        loss().backward()
        assert parameter.grad is not None, name
        place = int(parameter.grad.abs().argmax())
        flat, step = parameter.detach().view(-1), 1e-6
        with torch.no_grad():
            flat[place] += step
            above = float(loss())
            flat[place] -= 2 * step
            below = float(loss())
            flat[place] += step
        expected = (above - below) / (2 * step)
        assert float(parameter.grad.view(-1)[place]) == pytest.approx(expected, rel=1e-4, abs=1e-8), name


def test_the_first_order_gradient_leaves_out_the_curvature() -> None:
    features, told = support()
    items = torch.randn(2, FEATURES, dtype=torch.float64)
    found = []
    for second_order in (True, False):
        made = loop("full", second_order=second_order)
        made.adapt(features, told).shift(items).sum().backward()
        assert made.start_at["read"].grad is not None
        found.append(made.start_at["read"].grad)
    assert not torch.allclose(*found)


def test_what_cannot_be_is_refused() -> None:
    prior = AdaptationPrior(FEATURES, len(EVENT_TYPES))
    with pytest.raises(UserError, match="kind is 'tail'"):
        GradientLoop(prior, "tail", 1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="steps is 0, must be at least 1"):
        GradientLoop(prior, "head", 0)
