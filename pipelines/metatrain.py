"""Metatrain: learn a prior from which a few events are enough for a new user.

The outer loop (outer_loop.py) learns noise, precision, gains and the correction from content on new tasks. In the end
the factors are computed again with the new tasks' users too, in the coordinates that the prior was learnt in.
"""

import json

import numpy as np
import torch
from torch.nn.functional import softplus

from pipelines.cases import validation_cases
from pipelines.outer_loop import OuterLoop
from pipelines.steps import Step, StepContext, Summary
from pipelines.transferring import transfer_settings, warmth_for
from recsys.adaptation import AdaptationHead
from recsys.evaluation.curve import kshot_curve
from recsys.learning.checkpoint import save_shape
from recsys.learning.factors import ItemStatistics, item_statistics, rotate_onto
from recsys.learning.optimizer import BestEpoch
from recsys.logs.prepared import open_prepared
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed


def run(context: StepContext) -> Summary:
    """Run the outer loop over new tasks and replayed old ones; keep the epoch that adapts best."""
    config, settings = context.config, context.config.metatrain
    log = open_prepared(context.inputs["prepare"])
    warmth = warmth_for(config, log)
    loop = OuterLoop.begin(log, context.inputs["pretrain"], config, warmth=warmth)
    network, head = loop.learner.network, loop.learner.head
    prior = head.prior
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
    context.log(f"before: {curve_title(config.evaluate.cutoff)}: {curve_text(shots, adapted, unadapted)}")
    update = 0
    for epoch in range(settings.epochs):
        context.progress.start(loop.batches, "batch", f"epoch {epoch + 1}")
        for losses in loop.epoch(1.0 - epoch / settings.epochs):
            update += 1
            context.progress.advance(1, new=losses.new_tasks, old=losses.old_tasks)
            for name in ("new_tasks", "old_tasks", "shift"):
                context.scalars.add(f"metatrain/{name}", getattr(losses, name), update)
        now, adapted, unadapted = quality()
        context.scalars.add("metatrain/validation_ndcg", now, update)
        context.log(f"epoch {epoch + 1}: validation {curve_text(shots, adapted, unadapted)}")
        context.judged(epoch, now)
        if best.offer(now, [network, head], epoch):
            break
    best.restore([network, head])
    everything = item_statistics(
        log,
        np.union1d(loop.old, loop.new),
        config.factors,
        derive_seed(context.seed, "factors"),
        None if warmth is None else warmth.rows(np.array(log.content), config),
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


def table_of(network: QNetwork, head: AdaptationHead | None) -> ItemTable:
    """Return the catalogue as teacher and head see it now; without a head there is nothing to adapt."""
    vectors, bias = network.tower.table()
    with torch.no_grad():
        items = torch.arange(len(bias))
        features = torch.zeros(len(bias), 1) if head is None else head.item_features(items)
        return ItemTable.of(vectors, bias * network.temperature, features)


def curve_title(cutoff: int) -> str:
    """Return what the figures of `curve_text` are."""
    return f"validation NDCG@{cutoff} after k events (in parentheses by the session's state alone)"


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
        **transfer_settings(config),
    },
    version=2,
)
