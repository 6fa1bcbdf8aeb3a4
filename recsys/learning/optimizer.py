"""Gradient hygiene shared by every training step: AdamW, clipping, a falling rate, and the best epoch kept."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

MAX_GRADIENT_NORM = 1.0


def optimizer_for(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices only: biases, gains and norms are left free."""
    matrices = [p for name, p in network.named_parameters() if p.ndim > 1 and "bias" not in name]
    others = [p for name, p in network.named_parameters() if p.ndim <= 1 or "bias" in name]
    return grouped_optimizer([(matrices, learning_rate, weight_decay), (others, learning_rate, 0.0)])


def grouped_optimizer(groups: Iterable[tuple[list[nn.Parameter], float, float]]) -> torch.optim.AdamW:
    """Return AdamW over (parameters, learning rate, weight decay); empty groups are left out."""
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay} for p, rate, decay in groups if p]
    )


def step(
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    rate_factor: float = 1.0,
    max_gradient_norm: float | None = MAX_GRADIENT_NORM,
) -> None:
    """Take one step with every group's learning rate times `rate_factor`, clipped unless the largest norm is None."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if max_gradient_norm is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * rate_factor
    optimizer.step()


@dataclass
class BestEpoch:
    """The weights of the epoch that validated best, and how long ago that was."""

    patience: int
    quality: float = float("-inf")
    epoch: int = -1
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def offer(self, quality: float, modules: list[nn.Module], epoch: int) -> bool:
        """Keep the weights if they are the best so far; return whether patience has run out.

        Without validation users quality is NaN: then the last epoch is the best there is.
        """
        if quality > self.quality or math.isnan(quality):
            self.quality, self.epoch = quality, epoch
            self.weights = [copy.deepcopy(module.state_dict()) for module in modules]
        return epoch - self.epoch >= self.patience

    def restore(self, modules: list[nn.Module]) -> None:
        """Put the best weights back."""
        for module, weights in zip(modules, self.weights, strict=True):
            module.load_state_dict(weights)
