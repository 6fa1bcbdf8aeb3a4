"""Index: the student's item vectors in a candidate index, packed into the bundle that is served."""

from pipelines.steps import Step, StepContext, Summary


def run(context: StepContext) -> Summary:
    """To be written."""
    raise NotImplementedError


STEP = Step(
    name="index",
    run=run,
    inputs=("prepare", "distill"),
    settings=lambda config: {"state": config.state, "index": config.index, "exploration": config.exploration},
)
