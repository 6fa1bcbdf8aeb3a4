"""The pages of fine-tuning that differ from a run's: the log goes on, the teacher learns what is new, and so on.

Each takes the parent's step of the same name further, so that what comes out is a run like any other and can be gone on
from in its turn.
"""

import json
from datetime import UTC, datetime

import numpy as np
import torch

from pipelines.cases import validation_cases
from pipelines.parent import Parent
from pipelines.pretrain import held_out_health, return_range, validation_quality
from pipelines.progress import PhaseReporter, counted_rows
from pipelines.steps import StepContext, Summary
from pipelines.transferring import PARENT
from recsys.errors import UserError
from recsys.evaluation.cold_start import validation_histories
from recsys.evaluation.warm import seconds_of
from recsys.learning.checkpoint import load_teacher, save_shape
from recsys.learning.device import training_device
from recsys.learning.dqn import DQNLearner
from recsys.learning.epoch_batches import EpochBatch, least_events
from recsys.learning.factors import ItemStatistics, cooccurrence_factors
from recsys.learning.freezing import freeze, hold_rows, item_tables
from recsys.learning.growth import follow_popularity, grown_teacher, placed
from recsys.learning.log_training import LogTraining
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import BestEpoch, grouped_optimizer
from recsys.learning.rehearsal import rehearsal_windows
from recsys.learning.target_network import frozen_copy
from recsys.logs.continuation import ContinuedLog
from recsys.logs.interactions import interaction_matrix
from recsys.logs.prepare import prepare
from recsys.logs.prepared import open_prepared
from recsys.mdp.tasks import trainable
from recsys.mdp.windows import batches
from recsys.models.q_network import QNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator
from recsys.training_config import FinetuneConfig
from recsys.types import BoolArray, FloatArray


def continue_log(context: StepContext, parent: Parent, continued: ContinuedLog) -> Summary:
    """Read the parent's log and the new events as one; known items keep their indices, codes and content."""
    before = continued.earlier.info
    info = prepare(
        context.config.prepare,
        context.seed,
        context.out,
        PhaseReporter(context.progress, "rows"),
        continued,
    )
    for reason, rows in info.quarantined.items():
        context.log(f"{counted_rows(rows)} put aside: {reason}")
    since = continued.first_new_second
    if before.test_from is not None:
        since = min(
            since, seconds_of(before.test_from)
        )  # what the parent was tested on, it has not learnt from
    record = {
        "how": "Fine-tuned from",
        "parent": parent.version,
        "digests": parent.digests(),
        "parent_trained_until": before.trained_until,
        "parent_last_event": before.last_event,
        "new_since": datetime.fromtimestamp(since, UTC).isoformat(),
        "new_events": info.events - before.events,
        "new_items": info.items - before.items,
        "new_users": info.users - before.users,
    }
    (context.out / PARENT).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return {name: int(record[name]) for name in ("new_events", "new_items", "new_users")}


def tune_teacher(context: StepContext, parent: Parent) -> Summary:
    """Let the teacher learn from windows with new events and a share of old ones; keep what pretraining keeps.

    Raises UserError if it is to learn answers, for which the parent's teacher has no head.
    """
    config, settings = context.config, context.config.finetune
    device = training_device(config.device)
    log = open_prepared(context.inputs["prepare"])
    record = json.loads((context.inputs["prepare"] / PARENT).read_text(encoding="utf-8"))
    histories = trainable(log, identified_only=config.pretrain.identified_only)
    teacher = load_teacher(parent.step("metatrain"), config.pretrain.temperature)
    if config.pretrain.response_weight > 0 and not teacher.shape.responses:
        raise UserError(
            f"pretrain.response_weight is {config.pretrain.response_weight}, must be 0 where the parent was trained "
            "without answers; set it so or train anew"
        )
    before = ItemStatistics.load(parent.step("metatrain") / "statistics.npz").popularity
    matrix = interaction_matrix(log, histories)
    popularity = np.asarray(matrix.sum(axis=0), np.float32).ravel()
    of_values = config.pretrain.start == "interactions"
    network, known = taught_items(teacher, np.array(log.content), before, popularity, of_values=of_values)
    if network.tower.memory is not None:
        memory = config.memory.model_copy(update={"features": network.shape.memory_features})
        factors = cooccurrence_factors(matrix, memory.factors(), derive_seed(context.seed, "memory-factors"))
        with torch.no_grad():
            held = network.tower.memory.weight
            held.copy_(torch.from_numpy(placed(factors, held.numpy(), known)))
    network.to(device)
    target = frozen_copy(network, share_tables=True)
    chance = torch_generator(context.seed, "finetune")
    reach = return_range(log, histories, config.pretrain)
    sampler = NegativeSampler.from_popularity(popularity)
    learner = DQNLearner(network, target, sampler, config.pretrain, reach, chance)
    shuffling = numpy_generator(context.seed, "finetune-windows")
    optimizer = _optimizer(network, settings, config.pretrain.weight_decay, config.memory.rate)
    training = LogTraining(log, learner, optimizer)
    cases = validation_cases(context, log)
    to_the_end = config.pretrain.keep == "target_network"
    kept = target if to_the_end else network
    best = BestEpoch(config.pretrain.patience, latest=to_the_end)
    start = validation_quality(network, cases, config)
    best.offer(start, [network], -1)
    terminal = config.pretrain.terminal
    context.log(f"before: validation NDCG@{config.evaluate.cutoff} {start:.4f}")
    held_rows = torch.from_numpy(known).to(device)
    since, replayed = seconds_of(record["new_since"]), 0
    hooks = []
    for epoch in range(settings.epochs):
        frozen = settings.frozen if epoch < (settings.frozen_epochs or settings.epochs) else ()
        freeze(network, frozen, held_rows)
        for hook in hooks:
            hook.remove()
        hooks = hold_rows(network, held_rows) if "vectors" in frozen else []
        windows, replayed = rehearsal_windows(
            log,
            histories,
            since,
            settings.replay_share,
            config.state.max_events,
            shuffling,
            least_events(terminal),
        )
        if not len(windows):
            break
        size = config.pretrain.batch_size
        count = -(-len(windows) // size)
        context.progress.start(count, "batch", f"epoch {epoch + 1}")
        # as in pretraining: where ends are terminal, windows of one length do not share a batch
        cut = batches(windows, size, shuffling, similar_length=terminal == "never")
        batches_of_epoch = (EpochBatch(rows, fold=None, weight=None) for rows in cut)
        done = (training.updates + np.arange(count)) / (settings.epochs * count)
        rates = np.maximum(1.0 - done, 0.05).tolist()
        for _, losses in training.epoch(batches_of_epoch, shuffling, rates):
            context.progress.advance(1, loss=float(losses.total.detach()))
        quality = validation_quality(kept, cases, config)
        context.scalars.add("finetune/validation_ndcg", quality, training.updates)
        context.log(
            f"epoch {epoch + 1}: {len(windows) - replayed:,} windows with new events, {replayed:,} replayed; "
            f"validation {quality:.4f}"
        )
        if best.offer(quality, [kept], epoch):
            break
    best.restore([network])
    network.cpu().requires_grad_(True)
    watched = validation_histories(log)
    learner = DQNLearner(
        network, frozen_copy(network), sampler.to(torch.device("cpu")), config.pretrain, reach, chance
    )
    learner.refresh_index()
    health = held_out_health(learner, *watched, config)
    (context.out / "health.json").write_text(json.dumps(health.plain(), indent=2) + "\n", encoding="utf-8")
    save_module(network, context.out / "teacher.safetensors")
    save_shape(network.shape, context.out / "teacher.json")
    np.savez(context.out / "popularity.npz", popularity=popularity, known=known)
    return {
        "validation_ndcg": round(best.quality, 4),
        "before": round(start, 4),
        "best_epoch": best.epoch + 1,
        "updates": training.updates,
        "replayed_windows": replayed,
    }


def taught_items(
    teacher: QNetwork, content: FloatArray, before: FloatArray, popularity: FloatArray, *, of_values: bool
) -> tuple[QNetwork, BoolArray]:
    """Return (the teacher over the whole catalogue, which items it had learnt about, (item,)).

    `before` and `popularity`, (item,), are the training histories with each item then and now. An item of which only
    the new tasks of metatrain knew has learnt nothing. `of_values` says whether Q started from popularity.
    """
    network = grown_teacher(teacher, content)
    was = np.zeros(len(content), np.float32)
    was[: len(before)] = before
    known: BoolArray = (was > 0) & (network.tower.known.numpy() > 0)
    follow_popularity(network, was, popularity, known, of_values=of_values)
    with torch.no_grad():
        network.tower.known.copy_(torch.from_numpy(((popularity > 0) | known).astype(np.float32)))
    return network, known


def _optimizer(
    network: QNetwork, settings: FinetuneConfig, weight_decay: float, memory_rate: float
) -> torch.optim.AdamW:
    """Return what moves the network: tables of vectors without decay, so that held rows stay; biases at their rate."""
    rate = settings.learning_rate
    tables = item_tables(network)
    biases = [network.tower.bias.weight, network.behavior_bias.weight]
    apart = {id(parameter) for parameter in [*tables, *biases]}
    others = [(name, p) for name, p in network.named_parameters() if id(p) not in apart]
    decayed = [p for name, p in others if p.ndim > 1 and "bias" not in name]
    free = [p for name, p in others if p.ndim <= 1 or "bias" in name]
    return grouped_optimizer(
        [
            (decayed, rate, weight_decay),
            (free, rate, 0.0),
            (tables[:1], rate, 0.0),
            (tables[1:] if memory_rate > 0 else [], rate * memory_rate, 0.0),
            (biases if settings.bias_rate > 0 else [], rate * settings.bias_rate, 0.0),
        ]
    )
