"""Distill: a small student that ranks and adapts as the teacher does.

The item table is the teacher's and stays as it is; what is learnt is a smaller state network and its own copy of the
adaptation prior.
"""

import copy
from dataclasses import replace

import numpy as np
import torch

from pipelines.cases import validation_cases
from pipelines.metatrain import curve_text, table_of
from pipelines.steps import Step, StepContext, Summary
from recsys.candidates.index import build_index
from recsys.config import IndexConfig
from recsys.evaluation.curve import Curve, kshot_curve
from recsys.learning.checkpoint import load_head, load_teacher, save_shape, save_table
from recsys.learning.distillation import Distiller
from recsys.learning.optimizer import BestEpoch, grouped_optimizer, step
from recsys.logs.prepared import open_prepared
from recsys.mdp.tasks import draw_shots, trainable
from recsys.mdp.windows import batches, cut_windows, read_windows
from recsys.models.student import StudentNetwork
from recsys.models.weights import save_module
from recsys.randomness import derive_seed, numpy_generator, torch_generator


def run(context: StepContext) -> Summary:
    """Match the teacher's Q on candidate sets, before and after adaptation; keep the epoch that adapts best."""
    config, settings = context.config, context.config.distill
    log = open_prepared(context.inputs["prepare"])
    teacher = load_teacher(context.inputs["metatrain"], config.pretrain.temperature).eval()
    head = load_head(context.inputs["metatrain"] / "head.safetensors").eval()
    table = table_of(teacher, head)
    shape = replace(
        teacher.shape, hidden=settings.hidden, layers=1, encoder="recurrent", dropout=settings.dropout
    )
    torch.manual_seed(derive_seed(context.seed, "student"))
    student = StudentNetwork(shape)
    student.vectors = table.vectors
    if teacher.states.memory is not None and student.states.memory is not None:
        student.states.memory.load_state_dict(teacher.states.memory.state_dict())
    prior = copy.deepcopy(head.prior)
    distiller = Distiller(
        teacher,
        head.prior,
        student,
        prior,
        table,
        build_index(table.index_vectors().numpy(), IndexConfig(kind="flat")),
        settings,
        config.pretrain.discount,
        torch_generator(context.seed, "distill"),
    )
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

    def curve() -> Curve:
        return kshot_curve(student, table, prior, cases, shots, evaluate.cutoff, config.pretrain.discount)

    teacher_curve = kshot_curve(
        teacher, table, head.prior, cases, shots, evaluate.cutoff, config.pretrain.discount
    )
    context.log(f"teacher: validation NDCG@{evaluate.cutoff} {curve_text(shots, *teacher_curve.mean())}")
    of_teacher = float(teacher_curve.adapted.mean())
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
        now = curve()
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
    return {
        "validation_ndcg": round(best.quality, 4),
        "of_teacher": round(best.quality / max(of_teacher, 1e-9), 4),
        "best_epoch": best.epoch + 1,
        "student_parameters": parameters(student),
        "teacher_parameters": parameters(teacher.states),
    }


def parameters(module: torch.nn.Module) -> int:
    """Return how many numbers a module learns, item tables apart."""
    return int(np.sum([parameter.numel() for parameter in module.parameters()]))


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
    version=2,
)
