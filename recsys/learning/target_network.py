"""The slowly moving copy of the network that supplies bootstrap values, and when it moves."""

import copy
import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from recsys.config import PretrainConfig

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network, *, share_tables: bool = False) -> Network:
    """Return a copy in evaluation mode that no gradient reaches.

    With `share_tables` it reads the live tables of a large catalogue instead of its own: a pass over the catalogue at
    every step would be needed to let them lag, and a step moves only a few of their rows.
    """
    shared: dict[int, object] = {}
    for module in network.modules() if share_tables else ():
        tables = [c.weight for c in module.children() if isinstance(c, nn.Embedding) and c.sparse]
        shared |= {id(table): nn.Parameter(table.data, requires_grad=False) for table in tables}
        if tables:  # constants that lie beside them, such as content
            shared |= {id(buffer): buffer for buffer in module.buffers(recurse=False)}
            shared |= {id(factors): factors for factors in getattr(module, "fold_factors", ())}
    target = copy.deepcopy(network, shared).eval()
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    return target


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """θ⁻ ← (1 − τ) θ⁻ + τ θ (Lillicrap et al. 2016, eq. in algorithm 1); rate 1 is a hard update."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        if slow.data_ptr() != fast.data_ptr():
            slow.lerp_(fast, rate)
    for constant, current in zip(target.buffers(), online.buffers(), strict=True):
        if constant.data_ptr() != current.data_ptr():
            constant.copy_(current)


@dataclass(frozen=True)
class TargetSchedule:
    """Hard (rate 1), soft (rate below 1), at every update or each `interval` of them, fixed or annealed.

    Rate and interval move linearly to their final values over the first `anneal` updates. Nothing is remembered:
    what happens after an update follows from its number alone, so a resumed run moves the target as it would have.
    """

    rate: float
    interval: float = 1
    final_rate: float | None = None
    final_interval: float | None = None
    anneal: int = 0

    @staticmethod
    def of(config: PretrainConfig) -> "TargetSchedule":
        """Return the schedule that a config asks for."""
        return TargetSchedule(
            config.target_tau,
            config.target_interval,
            config.final_target_tau,
            config.final_target_interval,
            config.target_anneal_updates,
        )

    def rate_after(self, update: int) -> float:
        """Return τ after the update of that number, counted from 1: 0 where the target stays where it is."""
        if math.floor(self._moves(update)) == math.floor(self._moves(update - 1)):
            return 0.0
        if self.final_rate is None:
            return self.rate
        done = min(1.0, update / self.anneal)
        return self.rate + (self.final_rate - self.rate) * done

    def follow(self, target: nn.Module, online: nn.Module, update: int) -> None:
        """Move the target after the update of that number, if it is due."""
        rate = self.rate_after(update)
        if rate > 0:
            soft_update(target, online, rate)

    def _moves(self, update: int) -> float:
        """Return how many moves are due by an update: ∫ du / interval(u), exact where the interval is constant."""
        first, last = self.interval, self.final_interval
        if last is None or last == first:
            return update / first
        slope = (last - first) / self.anneal
        grown = min(update, self.anneal)
        return math.log1p(slope * grown / first) / slope + max(0, update - self.anneal) / last
