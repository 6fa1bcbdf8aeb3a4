"""What the log says that a teacher's policy brings: fitted Q evaluation (Le et al. 2019, algorithm 3).

A Q-function promises max_i Q(s, i) where a history begins. Taking the largest of many noisy numbers it may promise too
much, and where its policy earns more than the log did, no logged return can tell. A second network, of another seed,
learns from the same log what that policy is worth:

    y = r + γ Q⁻(s', argmax_i Q_teacher(s', i))

It does not choose by its own noise, so its values are not the largest of anything. What both networks get wrong alike,
as states that a history does not tell apart, it does not see.
"""

from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import torch

from pipelines.steps import StepContext
from pipelines.teacher import teacher_optimizer
from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.encoding import moved
from recsys.learning.epoch_batches import EpochBatches
from recsys.learning.health import QHealth
from recsys.learning.log_training import LogTraining
from recsys.learning.losses import NegativeSampler
from recsys.learning.target_network import frozen_copy, soft_update
from recsys.logs.prepared import PreparedLog
from recsys.mdp.windows import Windows, read_windows
from recsys.models.q_network import QNetwork, q_of_candidates
from recsys.randomness import numpy_generator, torch_generator
from recsys.types import LongArray

MOST_STARTS = 4_096  # held-out histories whose beginnings are asked about
AT_ONCE = 64  # beginnings whose Q of every item is held at a time


def evaluation_settings(settings: PretrainConfig) -> PretrainConfig:
    """Return how the second network learns: as the teacher did, but values of one step of another's choice alone."""
    return settings.model_copy(
        update={
            "target": "max",
            "double": True,
            "n_step": 1,
            "quantiles": 1,
            "conservative_weight": 0.0,
            "replay": "uniform",
            "epochs": settings.fqe_epochs,
            # a warm-up by the conservative term alone would have nothing to learn here
            "warmup_epochs": settings.warmup_epochs if settings.supervised_weight > 0 else 0,
        }
    )


@dataclass(frozen=True)
class Told:
    """What the second network learns from: that of the teacher."""

    log: PreparedLog
    histories: LongArray
    fold: LongArray | None  # of each history, whose factors it must not read
    sampler: NegativeSampler
    reach: tuple[float, float] | None  # least and largest return that rewards allow


def with_promise(
    health: QHealth,
    teacher: QNetwork,
    judge: QNetwork,
    told: Told,
    watched: tuple[PreparedLog, LongArray],
    context: StepContext,
) -> QHealth:
    """Return the figures with what the teacher promises where `watched` histories begin, and what it is worth there.

    `judge` is the second network, of the teacher's shape and another seed, as it starts; it is trained here.
    """
    learn_values_of(teacher, judge, told, context)
    log, histories = watched
    begun = histories[log.history_train_end[histories] > 0][:MOST_STARTS]
    promised, fitted = values_at_the_start(teacher, judge, log, begun)
    context.log(f"promises {promised:.3f} of new histories, fitted Q evaluation finds {fitted:.3f}")
    return replace(health, promised=promised, fitted_value=fitted)


def learn_values_of(teacher: QNetwork, judge: QNetwork, told: Told, context: StepContext) -> None:
    """Let `judge` learn Q of the policy "the best by the teacher"."""
    config = context.config
    settings = evaluation_settings(config.pretrain)
    target = frozen_copy(judge, share_tables=True)
    chance = torch_generator(context.seed, "fitted-q")
    learner = DQNLearner(judge, target, told.sampler, settings, told.reach, chance, policy=teacher)
    training = LogTraining(told.log, learner, teacher_optimizer(judge, config))
    reading = numpy_generator(context.seed, "fitted-q-windows")
    replay = EpochBatches(told.log, told.histories, told.fold, settings, config.state.max_events, reading)
    teacher.eval()
    for epoch in range(settings.epochs):
        warmup = epoch < settings.warmup_epochs
        count, batches_of_epoch = replay.of_epoch(warmup=warmup)
        if epoch == settings.warmup_epochs:
            soft_update(target, judge, 1.0)
        context.progress.start(count, "batch", f"fitted Q evaluation, epoch {epoch + 1}")
        rates = repeat(1.0 - epoch / settings.epochs)
        for _, losses in training.epoch(batches_of_epoch, reading, rates, warmup=warmup):
            context.progress.advance(1, loss=float(losses.total.detach()))
    if settings.keep == "target_network":
        soft_update(judge, target, 1.0)


@torch.no_grad()
def values_at_the_start(
    teacher: QNetwork, judge: QNetwork, log: PreparedLog, histories: LongArray
) -> tuple[float, float]:
    """Return (mean max-Q of the teacher, mean value of its choices by the judge) where histories begin.

    NaN, both, of no histories.
    """
    teacher.eval()
    judge.eval()
    device = next(teacher.parameters()).device
    items = torch.arange(teacher.shape.items, device=device)
    sides = teacher.item_side(items), judge.item_side(items)
    promised, fitted = [], []
    for start in range(0, len(histories), AT_ONCE):
        some = histories[start : start + AT_ONCE]
        begin = np.asarray(log.history_offsets[some])
        batch = moved(read_windows(log, Windows(begin, begin + 1, some), None), device)
        of_each = []
        for network, side in zip((teacher, judge), sides, strict=True):
            states = network.state_vectors(batch)
            of_each.append(q_of_candidates(states.advantage[:, 0], states.value[:, 0], side))
        best, place = of_each[0].max(dim=1)
        promised.append(best)
        fitted.append(of_each[1].gather(1, place[:, None])[:, 0])
    if not promised:
        return float("nan"), float("nan")
    return float(torch.cat(promised).mean()), float(torch.cat(fitted).mean())
