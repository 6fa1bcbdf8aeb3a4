"""Q of logged actions alone: the numbers and the gradients of the dense network."""

import pytest
import torch

from recsys.models.selected_q import SelectedQ
from recsys.models.vector_network import VectorNetwork, VectorShape

FEATURES, ACTIONS, BATCH = 5, 7, 32


def network(hidden: tuple[int, ...]) -> VectorNetwork:
    torch.manual_seed(0)
    return VectorNetwork(VectorShape(FEATURES, ACTIONS, hidden)).double()


def asked() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    state = torch.randn(BATCH, FEATURES, generator=chance, dtype=torch.float64)
    slope = torch.randn(BATCH, generator=chance, dtype=torch.float64)
    return (
        state,
        torch.randint(ACTIONS - 1, (BATCH,), generator=chance),
        slope,
    )  # the last action is never taken


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4), (6, 4, 3)])
def test_it_is_the_dense_network_at_the_logged_actions(hidden: tuple[int, ...]) -> None:
    made, (state, action, slope) = network(hidden), asked()
    dense = made.q_all(made(state)).gather(1, action[:, None])[:, 0]
    (dense * slope).sum().backward()
    wanted = [parameter.grad.clone() for parameter in made.parameters()]
    made.zero_grad()
    others = state[:9] * 2
    short, beside = made.q_of(state, action, others)
    (short * slope).sum().backward()
    torch.testing.assert_close(short, dense)
    torch.testing.assert_close(beside, made.q_all(made(others)))
    assert not beside.requires_grad
    for parameter, gradient in zip(made.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert made.actions.weight.grad[-1].abs().max() == 0


def test_its_gradient_is_the_slope_of_its_values() -> None:
    made, (state, action, _) = network((6, 4)), asked()
    layers = [
        part for layer in (made.encoder[0], made.encoder[2], made.actions) for part in layer.parameters()
    ]
    assert torch.autograd.gradcheck(lambda *parts: SelectedQ.apply(state, action, None, *parts)[0], layers)


@pytest.mark.parametrize(
    "change",
    [{"dueling": True}, {"behavior": True}, {"return_head": True}, {"quantiles": 3}, {"action_features": 2}],
)
def test_a_network_with_more_heads_is_not_plain(change: dict[str, int]) -> None:
    assert network((6,)).plain
    assert not VectorNetwork(VectorShape(FEATURES, ACTIONS, (6,), **change)).plain  # type: ignore[arg-type]
