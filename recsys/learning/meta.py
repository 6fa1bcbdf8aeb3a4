"""The outer loop: learn a prior from which a few events are enough, and forget nothing about old users.

L_meta = (1/N_new) Σ L_new + (1/N_old) Σ L_old. New tasks are users whom pretraining has not seen: L_new is one minus
the chance that an item drawn from softmax(Q_u / T), adapted to their support, is among what they do afterwards. Old
tasks are replayed in prior mode: L_old is the cross-entropy of the logged item without support, plus the squared
distance of Q on logged actions from the pretrained Q, which keeps its values, plus `distill_weight` times KL(
softmax(Q_pretrained / T) ‖ softmax(Q / T) ) over sampled items, which keeps its order: what was learnt from old users
is not learnt over (Li and Hoiem 2016, Learning without Forgetting). What else a user takes in the training part of
their history is no rival of a query; nor of the logged item, if `old_rivals` spares it, so that L_old asks what a user
takes at all rather than what comes next.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from recsys.adaptation import AdaptationHead, InnerLoop, SupportSet, support_set
from recsys.config import MetatrainConfig
from recsys.learning.losses import NegativeSampler, mean, sampled_cross_entropy
from recsys.mdp.state import StateBatch
from recsys.mdp.tasks import TaskBatch
from recsys.mdp.windows import ever_taken, first_seen
from recsys.models.q_network import QNetwork, StateVectors, q_of_candidates


@dataclass(frozen=True)
class MetaLosses:
    """Scalars of one outer step; `total` carries the gradient."""

    total: torch.Tensor
    new_tasks: float
    old_tasks: float
    shift: float  # mean |ΔQ| on query items: an inner loop that does nothing shows here


class MetaLearner:
    """Turns batches of new and old tasks into L_meta."""

    def __init__(
        self,
        network: QNetwork,
        head: AdaptationHead,
        pretrained: QNetwork,
        sampler: NegativeSampler,
        config: MetatrainConfig,
        discount: float,
        generator: torch.Generator,
        loop: InnerLoop | None = None,  # none = the head's prior, in closed form
    ) -> None:
        self.network = network
        self.head = head
        self.loop: InnerLoop = head.prior if loop is None else loop
        self.pretrained = pretrained
        self.sampler = sampler
        self.config = config
        self.discount = discount
        self.generator = generator

    def refresh_means(self) -> None:
        """Recompute what costs a pass over the catalogue, once an epoch: the means that Q̄ needs, and the Gramian."""
        if self.config.weak_negatives > 0:
            self.head.refresh_gramian()
        vectors, bias = self.network.tower.table()
        self.mean_vector, self.mean_bias = vectors.mean(dim=0), bias.mean() * self.network.temperature

    def losses(self, new: TaskBatch, old: StateBatch) -> MetaLosses:
        """Return L_meta of a batch of new tasks and a batch of old ones."""
        new_loss, shift = self._new_tasks(new)
        old_loss = self._old_tasks(old)
        total = new_loss + self.config.old_task_weight * old_loss
        return MetaLosses(total, float(new_loss.detach()), float(old_loss.detach()), shift)

    @torch.no_grad()
    def start_evidence(self, batches: Iterable[TaskBatch], untrained: torch.Tensor, scale: float) -> None:
        """Set gains and offsets so that evidence starts as `scale` × the mean reward of its event type over some tasks.

        `untrained`, (event type,), is what the types that these tasks never show stand for, whatever the state.
        """
        prior = self.head.prior
        count, reward, surprise = (torch.zeros(len(untrained)) for _ in range(3))
        was_training = self.network.training
        self.network.eval()
        for tasks in batches:
            support, _ = self._support(tasks)
            present = support.present
            kind = support.event_type[present]
            count.index_add_(0, kind, torch.ones(len(kind)))
            reward.index_add_(0, kind, tasks.support.reward[:, : present.shape[1]][present])
            surprise.index_add_(0, kind, prior.surprise(support)[present])
        self.network.train(was_training)
        seen = count > 0
        mean = (reward - prior.gain * surprise) / count.clamp(min=1)
        prior.offset.copy_(scale * torch.where(seen, mean, untrained))
        prior.gain.copy_(scale * torch.where(seen, prior.gain, torch.zeros_like(prior.gain)))

    def _support(self, tasks: TaskBatch) -> tuple[SupportSet, StateVectors]:
        states = self.network.state_vectors(tasks.support)
        width = max(1, int(tasks.shots.max()))
        side = self.network.item_side(tasks.support.item[:, :width].clamp(min=0))
        support = support_set(
            tasks.support,
            states,
            side.vectors,
            side.bias,
            self.mean_vector,
            self.mean_bias,
            tasks.shots,
            self.discount,
            int(self.head.prior.n_step),
        )
        return support, states

    def _new_tasks(self, tasks: TaskBatch) -> tuple[torch.Tensor, float]:
        batch, shots = tasks.support, tasks.shots
        support, states = self._support(tasks)
        fast = self.loop.adapt(self.head.item_features(support.item), support)

        user = torch.arange(len(shots))
        advantage, value = states.advantage[user, shots], states.value[user, shots]
        row, chosen = tasks.query_task, tasks.query_item
        negative = self.sampler.draw(self.config.negatives, self.generator)
        shifted = fast.shift_of(row, self.head.item_features(chosen))
        chosen_side, negative_side = self.network.item_side(chosen), self.network.item_side(negative)
        q_chosen = value[row] + (advantage[row] * chosen_side.vectors).sum(-1) + chosen_side.bias + shifted
        q_negative = q_of_candidates(advantage, value, negative_side)
        q_negative = q_negative + fast.shift(self.head.item_features(negative))
        scale = 1.0 / self.config.temperature
        # what a user has is not recommended again, and what they take later they like too: no rivals of the query
        no_rival = ever_taken(batch, negative)
        rivals = (q_negative * scale - self.sampler.log_probability[negative]).masked_fill(
            no_rival, -torch.inf
        ) - math.log(len(negative))
        loss = 1.0 - expected_hits(q_chosen * scale, row, rivals)
        return loss, float(shifted.detach().abs().mean())

    def _old_tasks(self, batch: StateBatch) -> torch.Tensor:
        states = self.network.state_vectors(batch)
        row, column = torch.nonzero(torch.from_numpy(first_seen(batch)) & (batch.reward > 0), as_tuple=True)
        kept = torch.randperm(len(row), generator=self.generator)[: self.config.old_states]
        row, column = row[kept], column[kept]
        chosen = batch.item[row, column]
        negative = self.sampler.draw(self.config.negatives, self.generator)
        side, negative_side = self.network.item_side(chosen), self.network.item_side(negative)
        advantage, value = states.advantage[row, column], states.value[row, column]
        start = self.loop.before_support(batch.attributes)
        shift = start.shift_of(row, self.head.item_features(chosen))
        temperature = self.network.temperature
        q_chosen = value + (advantage * side.vectors).sum(-1) + side.bias + shift
        q_negative = q_of_candidates(advantage, value, negative_side)
        q_negative = q_negative + start.shift(self.head.item_features(negative))[row]
        cross_entropy = mean(
            sampled_cross_entropy(
                q_chosen / temperature,
                chosen,
                q_negative / temperature,
                negative,
                self.sampler.log_probability,
                ever_taken(batch, negative)[row] if self.config.old_rivals == "spared" else None,
            )
        )
        kept_values, kept_order = self._kept(batch, row, column, chosen, q_chosen, negative, q_negative)
        return cross_entropy + kept_values + self.config.distill_weight * kept_order

    def _kept(
        self,
        batch: StateBatch,
        row: torch.Tensor,
        column: torch.Tensor,
        chosen: torch.Tensor,
        q_chosen: torch.Tensor,  # (state,)
        negative: torch.Tensor,
        q_negative: torch.Tensor,  # (state, negative)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how far values of logged items and the order of sampled ones are from the pretrained network's."""
        temperature = self.network.temperature
        with torch.no_grad():
            before = self.pretrained.state_vectors(batch)
            advantage, value = before.advantage[row, column], before.value[row, column]
            side = self.pretrained.item_side(chosen)
            chosen_before = value + (advantage * side.vectors).sum(-1) + side.bias
            negative_before = q_of_candidates(advantage, value, self.pretrained.item_side(negative))
        correction = self.sampler.log_probability[negative]
        old = (negative_before / temperature - correction).log_softmax(dim=1)
        new = (q_negative / temperature - correction).log_softmax(dim=1)
        values = mean((q_chosen - chosen_before) ** 2) / temperature
        return values, mean((old.exp() * (old - new)).sum(dim=1))


def expected_hits(
    hit_logit: torch.Tensor,  # (pair,)
    row: torch.Tensor,  # (pair,) task of each query item, sorted
    rival_logit: torch.Tensor,  # (task, negative), corrected by −log q − log(number of negatives)
) -> torch.Tensor:
    """Return the mean over tasks of P(an item drawn from the softmax policy is in the query).

    This is the value of the policy's next draw, so that the top of the list counts; a cross-entropy, which asks every
    query item to be likely, taught the prior to adapt less than ranks best (docs/experiments.md).
    """
    asked, position = torch.unique_consecutive(row, return_inverse=True)
    place = torch.arange(len(row)) - torch.searchsorted(row, row)
    padded = hit_logit.new_full((len(asked), int(place.max()) + 1), -torch.inf).index_put(
        (position, place), hit_logit
    )
    found = torch.logsumexp(padded, dim=1)
    missed = torch.logsumexp(rival_logit[asked], dim=1)
    return torch.sigmoid(found - missed).mean()
