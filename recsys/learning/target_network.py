"""The slowly moving copy of the network that supplies bootstrap values."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """Return a copy in evaluation mode that no gradient reaches."""
    target = copy.deepcopy(network).eval()
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    return target


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """θ⁻ ← (1 − τ) θ⁻ + τ θ (Lillicrap et al. 2016, eq. in algorithm 1); rate 1 is a hard update."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.lerp_(fast, rate)
    for constant, current in zip(target.buffers(), online.buffers(), strict=True):
        constant.copy_(current)
