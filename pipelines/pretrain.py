"""Pretrain: offline Q-learning over logged sessions gives the teacher."""

from pipelines.steps import Step, StepContext, Summary


def run(context: StepContext) -> Summary:
    """To be written."""
    raise NotImplementedError


STEP = Step(
    name="pretrain",
    run=run,
    inputs=("prepare",),
    settings=lambda config: {"state": config.state, "model": config.model, "pretrain": config.pretrain},
)
