"""Distill: a small student that ranks and adapts as the teacher does.

The teacher is the run's own or, with `distill.ensemble`, the mean of its and other runs'. The item table is the run's
teacher's and stays as it is; what is learnt is a smaller state network and its own copy of the adaptation prior. How
alike both rank for validation users stands in agreement.json.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from pipelines.cases import validation_cases
from pipelines.manifest import read_manifest
from pipelines.metatrain import curve_text, curve_title, table_of
from pipelines.outer_loop import fresh_head
from pipelines.publish import AGREEMENT
from pipelines.steps import Step, StepContext, Summary
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.evaluation.agreement import agreement
from recsys.evaluation.curve import Curve, kshot_curve
from recsys.learning.checkpoint import load_head, load_teacher, save_shape, save_table
from recsys.learning.distillation import Distiller
from recsys.learning.optimizer import BestEpoch, grouped_optimizer, step
from recsys.learning.teachers import Learner, Teacher
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.mdp.tasks import draw_shots, trainable
from recsys.mdp.windows import batches, cut_windows, read_windows
from recsys.models.student import StudentNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator

SAME_LOG: Final = ("items.parquet", "arrays/history_role.npy", "arrays/history_train_end.npy")  # of prepare


def run(context: StepContext) -> Summary:
    """Match the teacher's Q on candidate sets, before and after adaptation; keep the epoch that adapts best."""
    config, settings = context.config, context.config.distill
    log = open_prepared(context.inputs["prepare"])
    members = [member(context.inputs["metatrain"], config), *ensemble(context)]
    torch.manual_seed(derive_seed(context.seed, "student"))
    learner = fresh_student(members[0], config, log)
    student, table, prior = learner.network, learner.table, learner.prior
    taught = Teacher.of(members if settings.from_teacher else [])
    discount = config.pretrain.discount
    distiller = Distiller(taught, learner, settings, discount, torch_generator(context.seed, "distill"))
    chance = numpy_generator(context.seed, "distill-windows")
    rate = settings.learning_rate
    optimizer = grouped_optimizer(
        [
            (list(student.parameters()), rate, 1e-5),
            (list(prior.parameters()), rate * settings.prior_rate, 0.0),
        ]
    )
    shots, evaluate = config.evaluate.shots, config.evaluate
    cases = validation_cases(context, log)

    def curve(of: Learner) -> Curve:
        return kshot_curve(of.network, of.table, of.prior, cases, shots, evaluate.cutoff, discount)

    context.log(f"teacher: {curve_title(evaluate.cutoff)}: {curve_text(shots, *curve(members[0]).mean())}")
    histories = trainable(log, identified_only=config.pretrain.identified_only)
    best = BestEpoch(settings.patience)
    update = 0
    for epoch in range(settings.epochs):
        windows = cut_windows(log, histories, config.state.max_events, 2, chance)
        context.progress.start(-(-len(windows) // settings.batch_size), "batch", f"epoch {epoch + 1}")
        student.train()
        for rows in batches(windows, settings.batch_size, chance):
            batch = read_windows(log, rows, chance)
            k = draw_shots(batch.lengths.numpy(), config.metatrain.max_support, chance)
            losses = distiller.losses(batch, torch.from_numpy(k))
            step(optimizer, losses.total, rate_factor=1.0 - epoch / settings.epochs)
            update += 1
            context.progress.advance(1, loss=float(losses.total.detach()))
            if update % 20 == 0:
                for name in ("prior_kl", "adapted_kl", "advantage", "next_item"):
                    context.scalars.add(f"distill/{name}", getattr(losses, name), update)
        now = curve(learner)
        quality = float(now.adapted.mean())  # of every number of shots, none among them
        context.scalars.add("distill/validation_ndcg", quality, update)
        context.log(f"epoch {epoch + 1}: validation {curve_text(shots, *now.mean())}")
        context.judged(epoch, quality)
        if best.offer(quality, [student, prior], epoch):
            break
    best.restore([student, prior])
    save_module(student, context.out / "student.safetensors")
    save_shape(student.shape, context.out / "student.json")
    save_module(prior, context.out / "prior.safetensors")
    save_table(table, context.out / "table.safetensors")
    ranked = [(m.network, m.prior, m.table) for m in members]
    alike = agreement(ranked, (student, prior, table), cases, shots, evaluate.cutoff, discount)
    told = {
        "users": len(cases),
        "cutoff": evaluate.cutoff,
        "teachers": len(members),
        "teacher_parameters": sum(parameters(m.network.states) for m in members),
        "student_parameters": parameters(student),
        "shots": alike.plain(shots),
    }
    (context.out / AGREEMENT).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    summary: Summary = {
        "validation_ndcg": round(best.quality, 4),
        "best_epoch": best.epoch + 1,
        "student_parameters": parameters(student),
        "teacher_parameters": sum(parameters(m.network.states) for m in members),
    }
    if len(cases):
        of_teacher = float(alike.student_ndcg.mean() / max(alike.teacher_ndcg.mean(), 1e-9))
        summary["of_teacher"] = round(of_teacher, 4)
        summary[f"overlap@{evaluate.cutoff}"] = round(float(alike.overlap.mean()), 3)
        summary["rank_correlation"] = round(float(alike.correlation.mean()), 3)
    return summary


def member(folder: Path, config: RunConfig) -> Learner:
    """Read what `metatrain` left in a folder."""
    network = load_teacher(folder, config.pretrain.temperature).eval().requires_grad_(False)
    head = load_head(folder / "head.safetensors").eval().requires_grad_(False)
    return Learner(network, head.prior, table_of(network, head))


def ensemble(context: StepContext) -> list[Learner]:
    """Read the teachers of other runs; raises UserError if one learnt from another log."""
    own = read_manifest(context.inputs["prepare"])
    found = []
    for run in context.config.distill.ensemble:
        other = read_manifest(run / "prepare")
        if other is None or own is None or any(own.files.get(f) != other.files.get(f) for f in SAME_LOG):
            raise UserError(
                f"distill.ensemble names {run}, whose log has other items or another split than this run's; run "
                "metatrain there with the same [prepare] settings, prepare.seed among them, and another seed"
            )
        found.append(member(run / "metatrain", context.config))
    return found


def fresh_student(teacher: Learner, config: RunConfig, log: PreparedLog) -> Learner:
    """Return a student over the teacher's item table; memory and prior are handed down too, unless it learns alone."""
    settings, states = config.distill, teacher.network.states
    shape = replace(
        teacher.network.shape,
        hidden=settings.hidden,
        layers=1,
        encoder=settings.encoder,
        dropout=settings.dropout,
        quantiles=1,
        behavior=False,
        responses=False,
    )
    student = StudentNetwork(shape)
    student.vectors = teacher.table.vectors
    prior = copy.deepcopy(teacher.prior)
    if states.memory is not None and student.states.memory is not None:
        if settings.from_teacher:
            student.states.memory.hand_down(states.memory)
        else:
            begun = config.memory
            student.states.memory.start_from(begun.start_scale, config.pretrain.temperature, begun.doubt)
    if not settings.from_teacher:
        factors = np.zeros(teacher.table.features.shape, np.float32)
        prior = fresh_head(log, factors, config).prior
    return Learner(student, prior.requires_grad_(True), teacher.table)


def parameters(module: torch.nn.Module) -> int:
    """Return how many numbers a module learns, item tables apart."""
    return int(np.sum([parameter.numel() for parameter in module.parameters()]))


def other_teachers(config: RunConfig) -> tuple[Path, ...]:
    """Return the files of other runs that the step reads."""
    names = ("teacher.json", "teacher.safetensors", "head.safetensors")
    return tuple(run / "metatrain" / name for run in config.distill.ensemble for name in names)


STEP = Step(
    name="distill",
    run=run,
    inputs=("prepare", "metatrain"),
    settings=lambda config: {
        "state": config.state,
        "distill": config.distill,
        "temperature": config.pretrain.temperature,
        "discount": config.pretrain.discount,
        "max_support": config.metatrain.max_support,
        "identified_only": config.pretrain.identified_only,
        "validation": config.evaluate.validation_settings(),
    },
    sources=other_teachers,
    version=4,
)
