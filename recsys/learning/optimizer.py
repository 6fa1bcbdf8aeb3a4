"""Gradient hygiene shared by every training step: AdamW, clipping, a falling rate, and the best epoch kept."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

MAX_GRADIENT_NORM = 1.0


class LazyAdamW(torch.optim.AdamW):
    """AdamW that leaves alone the rows of a table that a step did not read, their moments and decay included.

    Which tables those are, the gradients say: sparse ones (`nn.Embedding(sparse=True)`). A step then costs as much as
    the rows it read, however long the table. Departure from AdamW: moments of a row fade per touch, not per step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step: rows of sparse gradients here, everything else by AdamW."""
        if closure is not None:
            raise NotImplementedError("a closure would compute gradients that have been looked at already")
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    self._touch(table, table.grad.coalesce(), group)
                    table.grad = None
        super().step()
        return None

    def _touch(self, table: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        row, slope = gradient.indices()[0], gradient.values()
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        taken, (first, second), rate = float(state["step"]), group["betas"], group["lr"]
        mean = state["exp_avg"][row].lerp_(slope, 1 - first)
        square = state["exp_avg_sq"][row].mul_(second).addcmul_(slope, slope, value=1 - second)
        state["exp_avg"].index_copy_(0, row, mean)
        state["exp_avg_sq"].index_copy_(0, row, square)
        spread = (square / (1 - second**taken)).sqrt_().add_(group["eps"])
        kept = table[row].mul_(1 - rate * group["weight_decay"])
        table.index_copy_(0, row, kept.addcdiv_(mean, spread, value=-rate / (1 - first**taken)))


def clip_gradients(parameters: Iterable[torch.Tensor], largest: float) -> None:
    """Scale gradients, dense and sparse, so that their common norm is at most `largest`."""
    held = [p for p in parameters if p.grad is not None]
    for parameter in held:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()  # rows read twice count as one
    values = [g.values() if g.is_sparse else g for p in held if (g := p.grad) is not None]
    norm = nn.utils.get_total_norm(values)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(factor)


def optimizer_for(
    network: nn.Module,
    learning_rate: float,
    weight_decay: float,
    tuned: Sequence[nn.Parameter] = (),
    tuned_rate: float = 1.0,
    quick: Sequence[nn.Parameter] = (),
    quick_rate: float = 1.0,
) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices only: biases, gains and norms are left free.

    Parameters that start from something known are `tuned`: at their share of the rate and without decay. Scalars that
    decide much and would move too little in a training are `quick`.
    """
    slow = list(tuned) if tuned_rate > 0 else []
    apart = {id(parameter) for parameter in (*tuned, *quick)}
    named = [(name, p) for name, p in network.named_parameters() if id(p) not in apart]
    matrices = [p for name, p in named if p.ndim > 1 and "bias" not in name]
    others = [p for name, p in named if p.ndim <= 1 or "bias" in name]
    return grouped_optimizer(
        [
            (matrices, learning_rate, weight_decay),
            (others, learning_rate, 0.0),
            (slow, learning_rate * tuned_rate, 0.0),
            (list(quick), learning_rate * quick_rate, 0.0),
        ]
    )


def grouped_optimizer(groups: Iterable[tuple[list[nn.Parameter], float, float]]) -> torch.optim.AdamW:
    """Return AdamW over (parameters, learning rate, weight decay); equal groups are one, empty ones none."""
    alike: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameters, rate, decay in groups:
        if parameters:
            alike.setdefault((rate, decay), []).extend(parameters)
    return LazyAdamW(
        [
            {"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay}
            for (rate, decay), p in alike.items()
        ],
        fused=True,  # one kernel for all tensors: half the time of the default on a CPU
    )


def step(
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    rate_factor: float = 1.0,
    max_gradient_norm: float | None = MAX_GRADIENT_NORM,
) -> None:
    """Take one step with every group's learning rate times `rate_factor`, clipped unless the largest norm is None."""
    for group in optimizer.param_groups:  # what zero_grad does, without what it notes for a profiler
        for parameter in group["params"]:
            parameter.grad = None
    loss.backward()  # type: ignore[no-untyped-call]
    if max_gradient_norm is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_gradients(parameters, max_gradient_norm)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * rate_factor
    optimizer.step()


@dataclass
class BestEpoch:
    """The weights of the epoch that validated best, or of the latest, and how long ago that was."""

    patience: int
    quality: float = float("-inf")
    epoch: int = -1
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    latest: bool = False  # what validates worse is kept all the same

    def offer(self, quality: float, modules: list[nn.Module], epoch: int) -> bool:
        """Keep the weights if they are the best so far; return whether patience has run out.

        Without validation users quality is NaN: then the last epoch is the best there is.
        """
        if self.latest or quality > self.quality or math.isnan(quality):
            self.quality, self.epoch = quality, epoch
            self.weights = [copy.deepcopy(module.state_dict()) for module in modules]
        return epoch - self.epoch >= self.patience

    def restore(self, modules: list[nn.Module]) -> None:
        """Put the best weights back."""
        for module, weights in zip(modules, self.weights, strict=True):
            module.load_state_dict(weights)
