"""Metatrain: the outer loop that makes the teacher adaptable from a few events."""

from pipelines.steps import Step, StepContext, Summary


def run(context: StepContext) -> Summary:
    """To be written."""
    raise NotImplementedError


STEP = Step(
    name="metatrain",
    run=run,
    inputs=("prepare", "pretrain"),
    settings=lambda config: {"state": config.state, "model": config.model, "metatrain": config.metatrain},
)
