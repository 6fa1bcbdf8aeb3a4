"""The later pages of fine-tuning: head and student go on, and what live users would notice is measured."""

import copy
import json
from dataclasses import replace

import numpy as np
import torch

from pipelines import evaluate
from pipelines.cases import test_cases, validation_cases
from pipelines.metatrain import curve_text, curve_title, table_of
from pipelines.parent import Parent
from pipelines.publish import BUNDLE, CONTINUITY, EVALUATION
from pipelines.steps import StepContext, Summary
from pipelines.transferring import PARENT
from recsys.artifacts.bundle import QBundle, load_bundle
from recsys.evaluation.cold_start import history_of
from recsys.evaluation.continuity import continuity
from recsys.evaluation.curve import kshot_curve
from recsys.evaluation.warm import seconds_of
from recsys.learning.checkpoint import load_head, load_student, load_teacher, save_shape, save_table
from recsys.learning.distillation import Distiller
from recsys.learning.factors import ItemStatistics, item_statistics
from recsys.learning.growth import grown_head, placed
from recsys.learning.optimizer import BestEpoch, grouped_optimizer, step
from recsys.learning.rehearsal import rehearsal_windows
from recsys.learning.teachers import Learner, Teacher
from recsys.logs.prepared import open_prepared, training_histories
from recsys.mdp.tasks import draw_shots, trainable
from recsys.mdp.windows import batches, read_windows
from recsys.models.student import StudentNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator

USERS = 200  # whose lists before and after are compared


def grow_head(context: StepContext, parent: Parent) -> Summary:
    """Give new items features that the head can act on; what it knows of evidence stays."""
    config = context.config
    log = open_prepared(context.inputs["prepare"])
    network = load_teacher(context.inputs["pretrain"], config.pretrain.temperature)
    with np.load(context.inputs["pretrain"] / "popularity.npz") as kept:
        known = kept["known"]
    head = grown_head(load_head(parent.step("metatrain") / "head.safetensors"), np.array(log.content))
    histories = trainable(log, identified_only=config.pretrain.identified_only)
    everything = item_statistics(log, histories, config.factors, derive_seed(context.seed, "factors"))
    with torch.no_grad():
        head.factors.copy_(torch.from_numpy(placed(everything.factors, head.factors.numpy(), known)))
    ItemStatistics(head.factors.numpy(), everything.popularity).save(context.out / "statistics.npz")
    save_module(network, context.out / "teacher.safetensors")
    save_shape(network.shape, context.out / "teacher.json")
    save_module(head, context.out / "head.safetensors")
    return {"new_features": int((~known & (everything.popularity > 0)).sum())}


def tune_student(context: StepContext, parent: Parent) -> Summary:
    """Let the parent's student follow its teacher over the same windows; keep what validates best."""
    config, settings = context.config, context.config.finetune
    log = open_prepared(context.inputs["prepare"])
    record = json.loads((context.inputs["prepare"] / PARENT).read_text(encoding="utf-8"))
    teacher = load_teacher(context.inputs["metatrain"], config.pretrain.temperature).eval()
    head = load_head(context.inputs["metatrain"] / "head.safetensors").eval()
    table = table_of(teacher, head)
    was = load_student(parent.step("distill"))
    student = StudentNetwork(replace(was.shape, items=len(table)))
    student.load_state_dict(was.state_dict())
    student.vectors = table.vectors
    before = load_bundle(parent.bundle)
    assert isinstance(before, QBundle)  # noqa: S101 - find_parent has refused others
    prior = copy.deepcopy(before.prior).requires_grad_(True)
    chance = torch_generator(context.seed, "finetune-distill")
    discount = config.pretrain.discount
    taught = Teacher.of([Learner(teacher, head.prior, table)])
    distiller = Distiller(taught, Learner(student, prior, table), config.distill, discount, chance)
    shuffling = numpy_generator(context.seed, "finetune-distill-windows")
    optimizer = grouped_optimizer([(list(student.parameters()), settings.distill_rate, 1e-5)])
    shots, evaluated = config.evaluate.shots, config.evaluate
    cases = validation_cases(context, log)
    best = BestEpoch(config.distill.patience)

    def offer(epoch: int) -> float:
        curve = kshot_curve(student, table, prior, cases, shots, evaluated.cutoff, discount)
        told = f"epoch {epoch + 1}: validation" if epoch >= 0 else f"before: {curve_title(evaluated.cutoff)}:"
        context.log(f"{told} {curve_text(shots, *curve.mean())}")
        quality = float(curve.adapted.mean())
        best.offer(quality, [student, prior], epoch)
        return quality

    start = offer(-1)
    histories = trainable(log, identified_only=config.pretrain.identified_only)
    since = seconds_of(record["new_since"])
    update = 0
    for epoch in range(settings.distill_epochs):
        windows, _ = rehearsal_windows(
            log, histories, since, settings.replay_share, config.state.max_events, shuffling
        )
        size = config.distill.batch_size
        total = -(-len(windows) // size)
        context.progress.start(total, "batch", f"epoch {epoch + 1}")
        student.train()
        for rows in batches(windows, size, shuffling):
            batch = read_windows(log, rows, shuffling)
            k = draw_shots(batch.lengths.numpy(), config.metatrain.max_support, shuffling)
            losses = distiller.losses(batch, torch.from_numpy(k))
            step(optimizer, losses.total, max(1.0 - update / (settings.distill_epochs * total), 0.05))
            update += 1
            context.progress.advance(1, loss=float(losses.total.detach()))
        offer(epoch)
    best.restore([student, prior])
    save_module(student, context.out / "student.safetensors")
    save_shape(student.shape, context.out / "student.json")
    save_module(prior, context.out / "prior.safetensors")
    save_table(table, context.out / "table.safetensors")
    return {
        "validation_ndcg": round(best.quality, 4),
        "before": round(start, 4),
        "best_epoch": best.epoch + 1,
    }


def measure_continuity(context: StepContext, parent: Parent) -> Summary:
    """Compare the lists and item vectors of known users and items with the parent's."""
    earlier = open_prepared(parent.step("prepare"))
    before, after = load_bundle(parent.bundle), load_bundle(context.inputs["index"] / BUNDLE)
    assert isinstance(before, QBundle)  # noqa: S101 - find_parent has refused others
    assert isinstance(after, QBundle)  # noqa: S101 - the index step writes no other
    chance = numpy_generator(context.seed, "continuity")
    known = training_histories(earlier)
    drawn = chance.permutation(known[np.asarray(earlier.history_user[known]) >= 0])[:USERS]
    told = continuity(before, after, [history_of(earlier, index) for index in drawn.tolist()])
    (context.out / CONTINUITY).write_text(
        json.dumps(
            {name: None if value != value else value for name, value in told.plain().items()}, indent=2
        )
        + "\n",
        encoding="utf-8",
    )
    return {
        "overlap@10": round(told.overlap, 3),
        "largest_vector_move": round(told.largest_vector_move, 5),
        "q_move": round(told.q_move, 3),
    }


def evaluate_if_any(context: StepContext, *, wanted: bool) -> Summary:
    """Evaluate the served object as a run does; where nobody is cold, or it is not wanted, say so and go on."""
    log = open_prepared(context.inputs["prepare"])
    if wanted and len(test_cases(context, log)):
        return evaluate.run(context)
    why = "no cold test user among the new ones" if wanted else "not asked for"
    report = {
        "users": 0,
        "split": evaluate.split_text(log),
        "trained_until": log.info.trained_until,
        "cutoff": context.config.evaluate.cutoff,
        "policies": {},
        "paired": {},
        "why": why,
    }
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    (context.out / EVALUATION).write_text(text, encoding="utf-8")
    context.log(f"not evaluated: {why}; `recsys evaluate --log` or --store decides by replay")
    return {"users": 0}
