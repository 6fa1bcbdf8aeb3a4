"""The outer loop over a pretrained teacher, for every kind of inner loop: `metatrain` and the comparisons share it.

The adaptation head starts from co-occurrence factors and from evidence that averages the reward of its event type.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.transferring import Warmth, warm_head
from recsys.adaptation import AdaptationHead, AdaptationPrior
from recsys.config import MetatrainConfig, RunConfig
from recsys.gradient_adaptation import GradientLoop
from recsys.learning.checkpoint import load_teacher
from recsys.learning.factors import ItemStatistics
from recsys.learning.losses import NegativeSampler
from recsys.learning.meta import MetaLearner, MetaLosses
from recsys.learning.optimizer import grouped_optimizer, step
from recsys.learning.target_network import frozen_copy
from recsys.logs.prepared import PreparedLog
from recsys.mdp.support_policies import OtherPolicies
from recsys.mdp.tasks import TaskBatch, old_and_new_tasks, task_batches, task_starts
from recsys.mdp.windows import Windows, batches, cut_windows, read_windows
from recsys.models.q_network import QNetwork
from recsys.randomness import derive_seed, numpy_generator, torch_generator
from recsys.types import LongArray

EVIDENCE_BATCHES = 8  # of new tasks, to find what evidence averages before training


@dataclass(frozen=True)
class OuterLoop:
    """A learner with the tasks that it learns from."""

    log: PreparedLog
    config: RunConfig
    learner: MetaLearner
    optimizer: torch.optim.Optimizer
    starts: Windows  # of new tasks
    others: OtherPolicies | None  # whose logs a share of the supports is resampled for
    old: LongArray  # histories that are replayed in prior mode
    new: LongArray  # histories that new tasks are cut from
    chance: np.random.Generator

    @staticmethod
    def begin(
        log: PreparedLog,
        pretrained: Path,  # folder of the `pretrain` step
        config: RunConfig,
        inner: Callable[[AdaptationPrior], GradientLoop] | None = None,  # none = the closed form
        warmth: Warmth | None = None,  # none = evidence starts from the rewards of this log
    ) -> "OuterLoop":
        """Return the loop before its first step."""
        settings, seed = config.metatrain, config.seed
        network = load_teacher(pretrained, config.pretrain.temperature)
        statistics = ItemStatistics.load(pretrained / "statistics.npz")
        head = fresh_head(log, statistics.factors, config)
        old, new = old_and_new_tasks(
            log, config.pretrain.new_task_share, seed, identified_only=config.pretrain.identified_only
        )
        starts = task_starts(log, new, settings.min_task_events, first_only=settings.starts == "histories")
        chance = numpy_generator(seed, "metatrain-tasks")
        torch.manual_seed(derive_seed(seed, "metatrain"))
        loop = None if inner is None else inner(head.prior)
        learner = MetaLearner(
            network,
            head,
            frozen_copy(network),
            NegativeSampler.from_popularity(statistics.popularity),
            settings,
            config.pretrain.discount,
            torch_generator(seed, "metatrain"),
            loop,
        )
        learner.refresh_means()
        learner.start_evidence(
            islice(new_tasks(log, starts, config, numpy_generator(seed, "evidence")), EVIDENCE_BATCHES),
            torch.tensor([log.info.reward_base.get(name, 0.0) for name in log.info.event_types]),
            settings.initial_scale,
        )
        if warmth is not None:
            warm_head(head, warmth, log.info.event_types)
        optimizer = outer_optimizer(network, head, settings, loop)
        others = None
        if settings.other_share > 0:
            others = OtherPolicies(
                settings.other_share, settings.other_policies, statistics.popularity, statistics.factors
            )
        return OuterLoop(log, config, learner, optimizer, starts, others, old, new, chance)

    @property
    def batches(self) -> int:
        """Return the steps of an epoch."""
        return -(-len(self.starts) // self.config.metatrain.batch_size)

    def epoch(self, rate_factor: float) -> Iterator[MetaLosses]:
        """Take one pass over the new tasks, yielding the losses of each step."""
        log, config, learner = self.log, self.config, self.learner
        learner.refresh_means()
        old_windows = cut_windows(log, self.old, config.state.max_events, 2, self.chance)
        old_batches = list(batches(old_windows, config.metatrain.batch_size, self.chance))
        learner.network.train()
        learner.head.train()
        spared = config.metatrain.old_rivals == "spared"
        # zip ends with the shorter side: an epoch is one pass over the new tasks
        tasks = new_tasks(log, self.starts, config, self.chance, self.others)
        for some, old_rows in zip(tasks, cycle(old_batches), strict=False):
            old = read_windows(log, old_rows, self.chance, whole_histories=spared)
            losses = learner.losses(some, old)
            step(self.optimizer, losses.total, rate_factor=rate_factor)
            yield losses


def new_tasks(
    log: PreparedLog,
    starts: Windows,
    config: RunConfig,
    chance: np.random.Generator,
    others: OtherPolicies | None = None,
) -> Iterator[TaskBatch]:
    """Return one pass over the new tasks."""
    settings = config.metatrain
    return task_batches(
        log, starts, settings.batch_size, settings.max_support, settings.max_query, chance, others
    )


def fresh_head(log: PreparedLog, factors: np.ndarray, config: RunConfig) -> AdaptationHead:
    """Return a head whose kernel is the factors' similarity and whose gain is the configured one."""
    settings = config.metatrain
    prior = AdaptationPrior(
        factors.shape[1],
        len(log.info.event_types),
        [len(values) for values in log.info.user_attribute_values],
        settings.amortised_features,
        settings.n_step,
    )
    head = AdaptationHead(len(factors), log.content.shape[1], prior)
    with torch.no_grad():
        head.factors.copy_(torch.from_numpy(factors))
        head.content.copy_(torch.from_numpy(np.array(log.content)))
        prior.gain.fill_(settings.initial_gain)
        prior.log_noise.fill_(float(np.log(settings.initial_noise)))
        if settings.weak_negatives > 0:
            head.log_negatives.fill_(float(np.log(settings.weak_negatives)))
    return head


def outer_optimizer(
    network: QNetwork, head: AdaptationHead, settings: MetatrainConfig, loop: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Return what moves the head, the network at its fraction of the rate, and an inner loop's own parameters."""
    prior, rate = head.prior, settings.learning_rate
    scalars = [head.log_precision, head.log_negatives, prior.log_noise, prior.log_decay]
    scalars += [prior.gain, prior.offset, prior.mix_logit, prior.growth]
    starts_at = [] if prior.amortised is None else list(prior.amortised.parameters())
    known = {id(parameter) for parameter in prior.parameters()}
    free = [] if loop is None else [p for p in loop.parameters() if id(p) not in known]
    scalars += [p for p in free if p.ndim == 0]  # the rates of the inner loop's steps
    own = [p for p in free if p.ndim > 0]
    return grouped_optimizer(
        [
            (scalars, rate * settings.scalar_rate, 0.0),
            (starts_at + own, rate, settings.weight_decay),
            ([prior.mean, head.correction.weight], rate * settings.map_rate, settings.weight_decay),
            (list(network.parameters()) if settings.network_rate else [], rate * settings.network_rate, 0.0),
        ]
    )
