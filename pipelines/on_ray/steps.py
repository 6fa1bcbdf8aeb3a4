"""The steps with the work of some of them on a cluster; their artifacts and records are as from one machine."""

from dataclasses import replace
from functools import partial

from pipelines import prepare
from pipelines.on_ray.spread import spread_on_ray
from pipelines.steps import Step


def steps_on_ray(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps as a connected cluster runs them; the others run where the command runs."""
    runs = {"prepare": partial(prepare.run, spread=spread_on_ray)}
    return tuple(replace(step, run=runs[step.name]) if step.name in runs else step for step in steps)
