"""Offline Q-learning over logged histories: targets, losses, health of the Q-function.

The target ladder: *sarsa* bootstraps from the logged next action; *supported_max* from the best action that the
behaviour head supports (discrete BCQ, Fujimoto et al. 2019), chosen by the online network and valued by the target
network (double Q, van Hasselt et al. 2016). The conservative term of CQL (Kumar et al. 2020) is a cross-entropy with
Q / temperature as its logits, so the served head ranks and carries values at once.
"""

from dataclasses import dataclass

import torch
from torch import nn

from recsys.candidates.index import CandidateIndex, build_index
from recsys.config import IndexConfig, PretrainConfig
from recsys.learning.losses import NegativeSampler, mean, sampled_cross_entropy
from recsys.mdp.builder import n_step_returns
from recsys.mdp.state import StateBatch
from recsys.mdp.windows import first_seen
from recsys.models.q_network import ItemSide, QNetwork, StateVectors, q_of_candidates, q_of_pairs

MAX_TD_STATES = (
    1024  # states a batch learns values from: the rest of the batch costs only the supervised heads
)


@dataclass(frozen=True)
class StepLosses:
    """Scalars of one update; `total` carries the gradient."""

    total: torch.Tensor
    supervised: float
    td: float
    conservative: float
    mean_max_q: float  # over supported candidates of the sampled states
    mean_return: float  # n-step logged return with bootstrap by U, same states
    unsupported_argmax: float  # share of states whose best candidate the behaviour head does not support


def behavior_index(target: QNetwork) -> CandidateIndex:
    """Return an index that finds the actions most likely under the behaviour head of the target network."""
    vectors, _ = target.tower.table()
    bias = target.behavior_bias.weight
    return build_index(torch.cat([vectors, bias], dim=1).numpy(), IndexConfig(kind="flat"))


def likely_actions(index: CandidateIndex, behavior: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` most likely actions of states, (state, candidate), from queries g(s)."""
    query = torch.cat([behavior, torch.ones(len(behavior), 1)], dim=1)
    return torch.from_numpy(index.search(query.numpy(), count)[0]).long()


def supported_values(
    online: tuple[torch.Tensor, torch.Tensor],
    target: tuple[torch.Tensor, torch.Tensor],
    online_items: ItemSide,
    target_items: ItemSide,
    behavior_logit: torch.Tensor,  # (state, candidate)
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (bootstrap value, max online Q, best candidate is unsupported?) over each state's own candidates.

    value = Q⁻(s, argmax_{i: π_b(i|s) ≥ threshold · max π_b} Q(s, i)); items have shape (state, candidate, feature).
    """
    q_online = online[1][:, None] + (online[0][:, None] * online_items.vectors).sum(-1) + online_items.bias
    q_target = target[1][:, None] + (target[0][:, None] * target_items.vectors).sum(-1) + target_items.bias
    relative = behavior_logit - behavior_logit.amax(dim=1, keepdim=True)
    supported = relative.exp() >= threshold
    best = q_online.masked_fill(~supported, -torch.inf).argmax(dim=1, keepdim=True)
    unsupported = ~supported.gather(1, q_online.argmax(dim=1, keepdim=True))
    return q_target.gather(1, best)[:, 0], q_online.gather(1, best)[:, 0], unsupported[:, 0]


def _at(states: StateVectors, row: torch.Tensor, column: torch.Tensor) -> StateVectors:
    return StateVectors(
        states.advantage[row, column],
        states.value[row, column],
        states.behavior[row, column],
        states.behavior_return[row, column],
    )


class DQNLearner:
    """Turns batches of windows into losses; holds the target network and its behaviour index."""

    def __init__(
        self,
        network: QNetwork,
        target: QNetwork,
        sampler: NegativeSampler,
        config: PretrainConfig,
        target_range: tuple[float, float],
        generator: torch.Generator,
    ) -> None:
        self.network = network
        self.target = target
        self.sampler = sampler
        self.config = config
        self.target_range = target_range
        self.generator = generator
        self.index: CandidateIndex | None = None

    def refresh_index(self) -> None:
        """Rebuild the index of likely actions from the target network."""
        self.index = behavior_index(self.target)

    def losses(self, batch: StateBatch, *, warmup: bool) -> StepLosses:
        """Return the losses of one batch; while warming up, only supervised ones."""
        states = self.network.state_vectors(batch)
        row, column = torch.nonzero(torch.from_numpy(first_seen(batch)) & (batch.reward > 0), as_tuple=True)
        chosen = batch.item[row, column]
        here = _at(states, row, column)
        negative = self.sampler.draw(self.config.negatives, self.generator)
        log_probability = self.sampler.log_probability
        positive_side, negative_side = self.network.item_side(chosen), self.network.item_side(negative)

        behavior_loss = mean(
            sampled_cross_entropy(
                (here.behavior * positive_side.vectors).sum(-1) + positive_side.behavior_bias,
                chosen,
                here.behavior @ negative_side.vectors.T + negative_side.behavior_bias,
                negative,
                log_probability,
            )
        )
        scale = 1.0 / self.network.temperature
        conservative = mean(
            sampled_cross_entropy(
                q_of_pairs(here, positive_side) * scale,
                chosen,
                q_of_candidates(here.advantage, here.value, negative_side) * scale,
                negative,
                log_probability,
            )
        )
        total = behavior_loss + self.config.conservative_weight * conservative
        if warmup:
            return StepLosses(
                total, float(behavior_loss.detach()), 0.0, float(conservative.detach()), 0.0, 0.0, 0.0
            )
        td, value_loss, health = self._td(batch, states)
        total = total + self.config.td_weight * td + value_loss
        return StepLosses(
            total, float(behavior_loss.detach()), float(td.detach()), float(conservative.detach()), *health
        )

    def _td(
        self, batch: StateBatch, states: StateVectors
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float, float]]:
        returns, next_state, factor = n_step_returns(
            batch.reward, batch.lengths, self.config.discount, self.config.n_step
        )
        row, column = torch.nonzero(batch.present, as_tuple=True)
        if len(row) > MAX_TD_STATES:
            kept = torch.randperm(len(row), generator=self.generator)[:MAX_TD_STATES]
            row, column = row[kept], column[kept]
        arrival = next_state[row, column]
        with torch.no_grad():
            target_states = self.target.state_vectors(batch)
            there = _at(target_states, row, arrival)
            ends = arrival >= batch.lengths[row]
            logged_next = batch.item[row, torch.clamp(arrival, max=batch.item.shape[1] - 1)]
            bootstrap, max_q, unsupported = self._bootstrap(
                _at(states, row, arrival), there, logged_next, ends
            )
            tail = returns[row, column] + factor[row, column] * there.behavior_return
            target = (returns[row, column] + factor[row, column] * bootstrap).clamp(*self.target_range)
        here = _at(states, row, column)
        q_logged = q_of_pairs(here, self.network.item_side(batch.item[row, column]))
        td = nn.functional.smooth_l1_loss(q_logged, target)
        value_loss = nn.functional.mse_loss(here.behavior_return, tail.clamp(*self.target_range))
        health = (float(max_q.mean()), float(tail.mean()), float(unsupported.float().mean()))
        return td, value_loss, health

    def _bootstrap(
        self, online: StateVectors, target: StateVectors, logged_next: torch.Tensor, ends: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (bootstrap value, max supported Q, argmax unsupported?) of next states, each (state,)."""
        if self.index is None:
            raise RuntimeError("refresh_index must run before the first update with targets")
        likely = likely_actions(self.index, target.behavior, self.config.bootstrap_candidates)
        # where the log goes on, what was really done next is a candidate too
        candidates = torch.cat([torch.where(ends, likely[:, 0], logged_next)[:, None], likely], dim=1)
        target_items = self.target.item_side(candidates)
        behavior_logit = (target.behavior[:, None] * target_items.vectors).sum(
            -1
        ) + target_items.behavior_bias
        online_items = self.network.item_side(candidates)
        value, max_q, unsupported = supported_values(
            (online.advantage, online.value),
            (target.advantage, target.value),
            online_items,
            target_items,
            behavior_logit,
            self.config.support_threshold,
        )
        if self.config.target == "sarsa":
            sarsa = q_of_pairs(target, self.target.item_side(candidates[:, 0]))
            value = torch.where(ends, target.behavior_return, sarsa)
        return value, max_q, unsupported
