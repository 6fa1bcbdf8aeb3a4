"""Pretrain: offline Q-learning over logged sessions gives the teacher.

A share of the training histories is kept back as the new tasks of metatrain: a network that has seen a user's future
cannot show how well it adapts to that user.
"""

import json
from itertools import repeat

import numpy as np
import torch

from pipelines.cases import validation_cases
from pipelines.fitted_q import Told, with_promise
from pipelines.steps import Step, StepContext, Summary
from pipelines.teacher import Start, start_warm, teacher_optimizer
from pipelines.transferring import PARENT, transfer_settings
from recsys.config import PretrainConfig, RunConfig
from recsys.errors import UserError
from recsys.evaluation.cold_start import ColdCases, validation_histories
from recsys.evaluation.curve import kshot_curve
from recsys.learning.checkpoint import save_shape
from recsys.learning.device import training_device
from recsys.learning.dqn import DQNLearner
from recsys.learning.epoch_batches import EpochBatches, least_events
from recsys.learning.freezing import freeze
from recsys.learning.health import QHealth, q_health
from recsys.learning.log_training import LogTraining
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import BestEpoch
from recsys.learning.parallel import ALONE, Group
from recsys.learning.resume import TrainingState
from recsys.learning.target_network import frozen_copy, soft_update
from recsys.logs.interactions import training_events
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.mdp.tasks import old_and_new_tasks
from recsys.mdp.windows import batches, cut_windows, read_windows
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator
from recsys.types import LongArray

CURVES = ("supervised", "response", "td", "conservative", "mean_max_q", "mean_return", "unsupported_argmax")
HEALTH_WINDOWS = 512  # held-out stretches of history that the Q-function's health is read from


def run(context: StepContext, group: Group = ALONE) -> Summary:
    """Warm up on what users do next, then learn what it is worth; keep the epoch that validates best, or the last.

    Several processes run it together as a group; the one that leads writes. Raises UserError if the group cannot.
    """
    config, settings = context.config, context.config.pretrain
    device = training_device(config.device)
    if group.size > 1 and settings.replay == "prioritized":
        raise UserError(
            f'pretrain.replay is "prioritized", must be "uniform" for {group.size} processes: each would know errors '
            "of its own windows alone; set it so or train with one"
        )
    log = open_prepared(context.inputs["prepare"])
    old, new = old_and_new_tasks(
        log, settings.new_task_share, context.seed, identified_only=settings.identified_only
    )
    start = Start.of(log, old, config)
    statistics, warmth = start.statistics, start.warmth
    network, fold = start.network(config)
    if warmth is not None:
        start_warm(network, warmth, log)
        (context.out / PARENT).write_text(json.dumps(warmth.record(config), indent=2, sort_keys=True) + "\n")
        context.log(
            f"starts from {config.transfer.source}: {warmth.carried.matched:,} items are known, content tells "
            f"{warmth.carried.explained:.0%} of what the others would be"
        )
    network.to(device)
    target = frozen_copy(network, share_tables=True)
    sampler = NegativeSampler.from_popularity(statistics.popularity)
    reach = return_range(log, old, settings)
    chance = torch_generator(context.seed, "pretrain")
    learner = DQNLearner(network, target, sampler, settings, reach, chance)
    shuffling = numpy_generator(context.seed, "pretrain-windows")
    optimizer = teacher_optimizer(network, config)
    training = LogTraining(log, learner, optimizer, group)
    replay = EpochBatches(log, old, fold, settings, config.state.max_events, shuffling)
    cases = validation_cases(context, log)
    watched = (log, new) if len(new) else validation_histories(log)
    kept, latest = (target, True) if settings.keep == "target_network" else (network, False)
    best = BestEpoch(settings.patience, latest=latest)
    state = TrainingState(
        {"network": network, "target": target}, optimizer, best, {"pretrain": chance}, {"windows": shuffling}
    )
    counters = {"epoch": 0, "update": 0, "over": 0}
    unfinished = None if context.unfinished is None else context.unfinished / "training.safetensors"
    if unfinished is not None and unfinished.exists():
        counters, priorities = state.load(unfinished)
        replay.restore(priorities)
        context.log(f"goes on after epoch {counters['epoch']}, where an earlier run was stopped")
    training.updates = counters["update"]
    for epoch in range(counters["epoch"], settings.epochs if not counters["over"] else counters["epoch"]):
        warmup = epoch < settings.warmup_epochs
        count, batches_of_epoch = replay.of_epoch(warmup=warmup)
        if epoch == settings.warmup_epochs:
            soft_update(target, network, 1.0)
        context.progress.start(count, "batch", f"epoch {epoch + 1}")
        if warmth is not None:
            freeze(network, config.transfer.frozen if epoch < config.transfer.frozen_epochs else ())
        reading = group.chance(context.seed, epoch, chance, shuffling)
        rates = repeat(1.0 - epoch / settings.epochs)
        for batch, losses in training.epoch(batches_of_epoch, reading, rates, warmup=warmup):
            replay.learnt(batch, losses.figures)
            context.progress.advance(1, loss=float(losses.total.detach()))
            if training.updates % 20 == 0:
                for name in CURVES:
                    context.scalars.add(f"pretrain/{name}", float(getattr(losses, name)), training.updates)
        quality = group.agree(lambda: validation_quality(kept, cases, config))
        context.scalars.add("pretrain/validation_ndcg", quality, training.updates)
        context.log(f"epoch {epoch + 1}: validation NDCG@{config.evaluate.cutoff} {quality:.4f}")
        context.judged(epoch, quality)
        over = False
        if not warmup:
            over = best.offer(quality, [kept], epoch)
            if group.leads:
                health = held_out_health(learner, *watched, config)
                for name, value in health.scalars().items():
                    context.scalars.add(f"health/{name}", value, training.updates)
        if unfinished is not None and group.leads:
            counters = {"epoch": epoch + 1, "update": training.updates, "over": int(over)}
            state.save(unfinished, counters, replay.state())
        if over:
            break
    summary: Summary = {
        "validation_ndcg": round(best.quality, 4),
        "best_epoch": best.epoch + 1,
        "updates": training.updates,
    }
    if not group.leads:
        return summary
    best.restore([network])
    soft_update(target, network, 1.0)
    learner.refresh_index()
    health = held_out_health(learner, *watched, config)
    if settings.fqe_epochs > 0:
        other = config.model_copy(update={"seed": derive_seed(config.seed, "fitted-q")})
        judge, judge_fold = start.network(other)
        told = Told(log, old, judge_fold, sampler, reach)
        health = with_promise(health, network, judge.to(device), told, watched, context)
    (context.out / "health.json").write_text(json.dumps(health.plain(), indent=2) + "\n", encoding="utf-8")
    save_module(network, context.out / "teacher.safetensors")
    save_shape(network.shape, context.out / "teacher.json")
    statistics.save(context.out / "statistics.npz")
    return summary


def held_out_health(
    learner: DQNLearner, log: PreparedLog, histories: LongArray, config: RunConfig
) -> QHealth:
    """Return the health of Q on histories that pretraining does not learn from; no chance of training is drawn."""
    chance = numpy_generator(config.seed, "pretrain-health")
    least = least_events(config.pretrain.terminal)
    windows = cut_windows(log, histories, config.state.max_events, least, chance)
    windows = windows.take(chance.permutation(len(windows))[:HEALTH_WINDOWS])
    watcher = learner.watching(torch_generator(config.seed, "pretrain-health"))
    network = learner.network
    network.eval()
    figures = []
    with torch.no_grad():
        for rows in batches(windows, config.pretrain.batch_size, chance):
            found = watcher.losses(read_windows(log, rows, None)).figures
            if found is not None:
                figures.append(found)
    network.train()
    return q_health(figures)


def return_range(
    log: PreparedLog, histories: LongArray, settings: PretrainConfig
) -> tuple[float, float] | None:
    """Return the least and the largest discounted return that training rewards allow: [r_min, r_max] / (1 − γ).

    None where the discount is per time: events of one moment are not discounted, and nothing bounds their sum.
    """
    if settings.discount_hours is not None:
        return None
    reward = np.asarray(log.reward[training_events(log, histories)[1]])
    low, high = float(np.min(reward, initial=0.0)), float(np.max(reward, initial=0.0))
    return low / (1.0 - settings.discount), high / (1.0 - settings.discount)


def validation_quality(network: QNetwork, cases: ColdCases, config: RunConfig) -> float:
    """Return NDCG of cold validation users, mean over the numbers of shots."""
    if next(network.parameters()).device.type != "cpu":
        network = frozen_copy(network).cpu()
    vectors, bias = network.tower.table()
    table = ItemTable.of(vectors, bias * network.temperature, torch.zeros(len(bias), 1))
    evaluate = config.evaluate
    curve = kshot_curve(
        network, table, None, cases, evaluate.shots, evaluate.cutoff, config.pretrain.discount
    )
    return float(curve.adapted.mean())


STEP = Step(
    name="pretrain",
    run=run,
    inputs=("prepare",),
    settings=lambda config: {
        "state": config.state,
        "model": config.model,
        "factors": config.factors,
        "memory": config.memory,
        "pretrain": config.pretrain,
        "validation": config.evaluate.validation_settings(),
        **transfer_settings(config),
    },
    version=3,  # the memory explains away, heads and ids start near zero
)
