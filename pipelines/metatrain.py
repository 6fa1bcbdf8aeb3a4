"""Metatrain: learn a prior from which a few events are enough for a new user.

The adaptation head starts from co-occurrence factors and from evidence that averages the reward of its event type; the
outer loop then learns noise, precision, gains and the correction from content on new tasks. In the end the factors are
computed again with the new tasks' users too, in the coordinates that the prior was learnt in.
"""

import json
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
import torch
from torch.nn.functional import softplus

from pipelines.cases import validation_cases
from pipelines.steps import Step, StepContext, Summary
from recsys.adaptation import AdaptationHead, AdaptationPrior
from recsys.config import RunConfig
from recsys.evaluation.curve import kshot_curve
from recsys.learning.checkpoint import load_teacher, save_shape
from recsys.learning.factors import ItemStatistics, item_statistics, rotate_onto
from recsys.learning.losses import NegativeSampler
from recsys.learning.meta import MetaLearner
from recsys.learning.optimizer import BestEpoch, grouped_optimizer, step
from recsys.learning.target_network import frozen_copy
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.mdp.tasks import TaskBatch, old_and_new_tasks, task_batches, task_starts
from recsys.mdp.windows import Windows, batches, cut_windows, read_windows
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator

EVIDENCE_BATCHES = 8  # of new tasks, to find what evidence averages before training


def run(context: StepContext) -> Summary:
    """Run the outer loop over new tasks and replayed old ones; keep the epoch that adapts best."""
    config, settings = context.config, context.config.metatrain
    log = open_prepared(context.inputs["prepare"])
    network = load_teacher(context.inputs["pretrain"], config.pretrain.temperature)
    pretrained = frozen_copy(network)
    statistics = ItemStatistics.load(context.inputs["pretrain"] / "statistics.npz")
    head = fresh_head(log, statistics.factors, config)
    old, new = old_and_new_tasks(
        log,
        config.pretrain.new_task_share,
        context.seed,
        identified_only=config.pretrain.identified_only,
    )
    starts = task_starts(log, new, settings.min_task_events, first_only=settings.starts == "histories")
    learner = MetaLearner(
        network,
        head,
        pretrained,
        NegativeSampler.from_popularity(statistics.popularity),
        settings,
        config.pretrain.discount,
        torch_generator(context.seed, "metatrain"),
    )
    chance = numpy_generator(context.seed, "metatrain-tasks")
    torch.manual_seed(derive_seed(context.seed, "metatrain"))
    prior = head.prior
    learner.refresh_means()
    learner.start_evidence(
        islice(new_tasks(log, starts, config, numpy_generator(context.seed, "evidence")), EVIDENCE_BATCHES),
        torch.tensor([log.info.reward_base.get(name, 0.0) for name in log.info.event_types]),
        settings.initial_scale,
    )
    scalars = [head.log_precision, head.log_negatives, prior.log_noise, prior.log_decay]
    scalars += [prior.gain, prior.offset, prior.mix_logit, prior.growth]
    starts_at = [] if prior.amortised is None else list(prior.amortised.parameters())
    rate = settings.learning_rate
    optimizer = grouped_optimizer(
        [
            (scalars, rate * settings.scalar_rate, 0.0),
            (starts_at, rate, settings.weight_decay),
            ([prior.mean, head.correction.weight], rate * settings.map_rate, settings.weight_decay),
            (list(network.parameters()) if settings.network_rate else [], rate * settings.network_rate, 0.0),
        ]
    )
    shots = config.evaluate.shots
    cases = validation_cases(context, log)

    def quality() -> tuple[float, np.ndarray, np.ndarray]:
        curve = kshot_curve(
            network,
            table_of(network, head),
            head.prior,
            cases,
            shots,
            config.evaluate.cutoff,
            config.pretrain.discount,
        )
        adapted, unadapted = curve.mean()
        return float(adapted.mean()), adapted, unadapted

    best = BestEpoch(settings.patience)
    before, adapted, unadapted = quality()
    best.offer(before, [network, head], -1)
    context.log(f"before: validation NDCG@{config.evaluate.cutoff} {curve_text(shots, adapted, unadapted)}")
    update = 0
    for epoch in range(settings.epochs):
        learner.refresh_means()
        old_windows = cut_windows(log, old, config.state.max_events, 2, chance)
        old_batches = list(batches(old_windows, settings.batch_size, chance))
        context.progress.start(-(-len(starts) // settings.batch_size), "batch", f"epoch {epoch + 1}")
        network.train()
        head.train()
        new_batches = new_tasks(log, starts, config, chance)
        # zip ends with the shorter side: an epoch is one pass over the new tasks
        for tasks, old_rows in zip(new_batches, cycle(old_batches), strict=False):
            losses = learner.losses(tasks, read_windows(log, old_rows, chance))
            step(optimizer, losses.total, rate_factor=1.0 - epoch / settings.epochs)
            update += 1
            context.progress.advance(1, new=losses.new_tasks, old=losses.old_tasks)
            for name in ("new_tasks", "old_tasks", "shift"):
                context.scalars.add(f"metatrain/{name}", getattr(losses, name), update)
        now, adapted, unadapted = quality()
        context.scalars.add("metatrain/validation_ndcg", now, update)
        context.log(f"epoch {epoch + 1}: validation {curve_text(shots, adapted, unadapted)}")
        if best.offer(now, [network, head], epoch):
            break
    best.restore([network, head])
    everything = item_statistics(
        log, np.union1d(old, new), config.factors, derive_seed(context.seed, "factors")
    )
    final = best.quality
    if settings.refit_factors:
        before_refit = head.factors.clone()
        head.factors.copy_(torch.from_numpy(rotate_onto(everything.factors, head.factors.numpy())))
        refitted, adapted, unadapted = quality()
        context.log(f"factors of every training user: validation {curve_text(shots, adapted, unadapted)}")
        if refitted < best.quality:
            head.factors.copy_(before_refit)
        final = max(refitted, best.quality)
    ItemStatistics(head.factors.numpy(), everything.popularity).save(context.out / "statistics.npz")
    save_module(network, context.out / "teacher.safetensors")
    save_shape(network.shape, context.out / "teacher.json")
    save_module(head, context.out / "head.safetensors")
    summary: Summary = {
        "validation_ndcg": round(final, 4),
        "before": round(before, 4),
        "best_epoch": best.epoch + 1,
        "noise": round(float(head.prior.log_noise.detach().exp()), 3),
        "mix": round(float(torch.sigmoid(head.prior.mix_logit.detach())), 3),
        "forgetting": round(float(torch.exp(-softplus(head.prior.log_decay.detach()))), 4),
        "weak_negatives": round(float(head.log_negatives.detach().exp()), 3)
        if settings.weak_negatives
        else 0.0,
    }
    by_type = {
        name: {"gain": round(float(gain), 4), "offset": round(float(offset), 4)}
        for name, gain, offset in zip(
            log.info.event_types, prior.gain.detach(), prior.offset.detach(), strict=True
        )
    }
    report = {**summary, "evidence": by_type}
    (context.out / "prior.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    return summary


def new_tasks(
    log: PreparedLog, starts: Windows, config: RunConfig, chance: np.random.Generator
) -> Iterator[TaskBatch]:
    """Return one pass over the new tasks."""
    settings = config.metatrain
    return task_batches(log, starts, settings.batch_size, settings.max_support, settings.max_query, chance)


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


def table_of(network: QNetwork, head: AdaptationHead | None) -> ItemTable:
    """Return the catalogue as teacher and head see it now; without a head there is nothing to adapt."""
    vectors, bias = network.tower.table()
    with torch.no_grad():
        items = torch.arange(len(bias))
        features = torch.zeros(len(bias), 1) if head is None else head.item_features(items)
        return ItemTable.of(vectors, bias * network.temperature, features)


def curve_text(shots: tuple[int, ...], adapted: np.ndarray, unadapted: np.ndarray) -> str:
    """Return a curve as 'k=5 .310 (.230)': adapted, and not adapted in brackets."""
    return ", ".join(f"k={k} {a:.3f} ({u:.3f})" for k, a, u in zip(shots, adapted, unadapted, strict=True))


STEP = Step(
    name="metatrain",
    run=run,
    inputs=("prepare", "pretrain"),
    settings=lambda config: {
        "state": config.state,
        "metatrain": config.metatrain,
        "factors": config.factors,
        "new_task_share": config.pretrain.new_task_share,
        "identified_only": config.pretrain.identified_only,
        "temperature": config.pretrain.temperature,
        "discount": config.pretrain.discount,
        "validation": config.evaluate.validation_settings(),
    },
    version=2,
)
