"""The steps with the work of some of them on a cluster; their artifacts and records are as from one machine.

`prepare` makes the same bytes, so its record is the same too. Pretraining by several workers is another training than
by one, and its record says by how many; the other steps run where the command runs.
"""

from dataclasses import replace
from functools import partial

from pipelines import prepare
from pipelines.on_ray.spread import spread_on_ray
from pipelines.on_ray.training import train_on_ray
from pipelines.steps import Step
from pipelines.together import with_workers


def steps_on_ray(steps: tuple[Step, ...], workers: int) -> tuple[Step, ...]:
    """Return the steps as a connected cluster runs them."""
    return tuple(_placed(step, workers) for step in steps)


def _placed(step: Step, workers: int) -> Step:
    if step.name == "prepare":
        return replace(step, run=partial(prepare.run, spread=spread_on_ray))
    if step.name == "pretrain" and workers > 1:
        return with_workers(step, partial(train_on_ray, workers=workers), workers)
    return step
