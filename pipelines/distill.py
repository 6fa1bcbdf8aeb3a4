"""Distill: a small student that ranks and adapts as the teacher does."""

from pipelines.steps import Step, StepContext, Summary


def run(context: StepContext) -> Summary:
    """To be written."""
    raise NotImplementedError


STEP = Step(
    name="distill",
    run=run,
    inputs=("prepare", "metatrain"),
    settings=lambda config: {"state": config.state, "model": config.model, "distill": config.distill},
)
