"""Evaluate: the served object itself, on cold users, beside popularity and item-kNN."""

from pipelines.steps import Step, StepContext, Summary


def run(context: StepContext) -> Summary:
    """To be written."""
    raise NotImplementedError


STEP = Step(
    name="evaluate",
    run=run,
    inputs=("prepare", "distill", "index"),
    settings=lambda config: {"evaluate": config.evaluate},
)
