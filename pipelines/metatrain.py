"""Metatrain: learn a prior from which a few events are enough for a new user.

The adaptation head starts from co-occurrence factors and a guess of the evidence gain that makes it a smoothed item
similarity; the outer loop then learns noise, precision, gains and the correction from content on new tasks.
"""

import json
from itertools import cycle

import numpy as np
import torch

from pipelines.steps import Step, StepContext, Summary
from recsys.adaptation import AdaptationHead
from recsys.config import RunConfig
from recsys.evaluation.cold_start import cold_cases
from recsys.evaluation.curve import kshot_curve
from recsys.learning.checkpoint import load_teacher, save_shape
from recsys.learning.factors import cooccurrence_factors, factor_histories, interaction_matrix, rotate_onto
from recsys.learning.losses import NegativeSampler
from recsys.learning.meta import MetaLearner
from recsys.learning.optimizer import BestEpoch, grouped_optimizer, step
from recsys.learning.target_network import frozen_copy
from recsys.logs.prepared import PreparedLog, Role, open_prepared
from recsys.mdp.replay_buffer import batches, cut_windows, read_windows
from recsys.mdp.tasks import old_and_new_tasks, task_batches, task_starts
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator


def run(context: StepContext) -> Summary:
    """Run the outer loop over new tasks and replayed old ones; keep the epoch that adapts best."""
    config, settings = context.config, context.config.metatrain
    log = open_prepared(context.inputs["prepare"])
    network = load_teacher(context.inputs["pretrain"], config.pretrain.temperature)
    pretrained = frozen_copy(network)
    with np.load(context.inputs["pretrain"] / "statistics.npz") as statistics:
        factors, popularity = statistics["factors"], statistics["popularity"]
    head = fresh_head(log, factors, config)
    old, new = old_and_new_tasks(log, config.pretrain.new_task_share, context.seed)
    starts = task_starts(log, new, settings.min_task_events)
    learner = MetaLearner(
        network,
        head,
        pretrained,
        NegativeSampler.from_popularity(popularity),
        settings,
        config.pretrain.discount,
        torch_generator(context.seed, "metatrain"),
    )
    chance = numpy_generator(context.seed, "metatrain-tasks")
    torch.manual_seed(derive_seed(context.seed, "metatrain"))
    prior = head.prior
    scalars = [head.log_precision, prior.log_noise, prior.gain, prior.mix_logit, prior.growth]
    rate = settings.learning_rate
    optimizer = grouped_optimizer(
        [
            (scalars, rate * settings.scalar_rate, 0.0),
            ([prior.mean, head.correction.weight], rate * settings.map_rate, settings.weight_decay),
            (list(network.parameters()) if settings.network_rate else [], rate * settings.network_rate, 0.0),
        ]
    )
    shots = config.evaluate.shots
    cases = cold_cases(
        log,
        Role.COLD_VALIDATION,
        max(shots),
        config.evaluate.max_users,
        numpy_generator(context.seed, "validation"),
    )

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
        new_batches = task_batches(
            log, starts, settings.batch_size, settings.max_support, settings.max_query, chance
        )
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
    if settings.refit_factors:
        refit(log, head, config)
        _, adapted, unadapted = quality()
        context.log(f"refit on every training user: validation {curve_text(shots, adapted, unadapted)}")
    save_module(network, context.out / "teacher.safetensors")
    save_shape(network.shape, context.out / "teacher.json")
    save_module(head, context.out / "head.safetensors")
    summary: Summary = {
        "validation_ndcg": round(best.quality, 4),
        "before": round(before, 4),
        "best_epoch": best.epoch + 1,
        "noise": round(float(head.prior.log_noise.detach().exp()), 3),
        "mix": round(float(torch.sigmoid(head.prior.mix_logit.detach())), 3),
    }
    gains = dict(
        zip(log.info.event_types, (round(float(g), 3) for g in head.prior.gain.detach()), strict=True)
    )
    (context.out / "prior.json").write_text(
        json.dumps({**summary, "gain": gains}, indent=2, sort_keys=True) + "\n"
    )
    return summary


def fresh_head(log: PreparedLog, factors: np.ndarray, config: RunConfig) -> AdaptationHead:
    """Return a head whose kernel is the factors' similarity and whose gain is the configured guess."""
    head = AdaptationHead(len(factors), factors.shape[1], log.content.shape[1], len(log.info.event_types))
    with torch.no_grad():
        head.factors.copy_(torch.from_numpy(factors))
        head.content.copy_(torch.from_numpy(np.array(log.content)))
        head.prior.gain.fill_(config.metatrain.initial_gain)
        head.prior.log_noise.fill_(float(np.log(config.metatrain.initial_noise)))
    return head


def refit(log: PreparedLog, head: AdaptationHead, config: RunConfig) -> None:
    """Compute the factors again from old and new tasks, in the coordinates that the prior was learnt in."""
    histories = log.with_role(Role.TRAIN)
    matrix = interaction_matrix(log, factor_histories(log, histories, config.factors))
    factors = cooccurrence_factors(matrix, config.factors, derive_seed(config.seed, "factors"))
    head.factors.copy_(torch.from_numpy(rotate_onto(factors, head.factors.numpy())))


def table_of(network: QNetwork, head: AdaptationHead) -> ItemTable:
    """Return the catalogue as teacher and head see it now."""
    vectors, bias = network.tower.table()
    with torch.no_grad():
        return ItemTable.of(vectors, bias * network.temperature, head.item_features(torch.arange(len(bias))))


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
        "temperature": config.pretrain.temperature,
        "discount": config.pretrain.discount,
        "validation": config.evaluate.validation_settings(),
    },
)
