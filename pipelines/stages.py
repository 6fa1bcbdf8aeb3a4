"""The pipeline in order: names for whoever only needs names, steps for whoever runs them."""

from dataclasses import replace
from typing import Final

from pipelines.steps import Settings, Step
from recsys.config import RunConfig

NAMES: Final = ("prepare", "pretrain", "metatrain", "distill", "index", "evaluate", "publish")

TRAINING: Final = (
    "pretrain",
    "metatrain",
    "distill",
)  # sums of floats, so the weights, depend on the threads


def all_steps() -> tuple[Step, ...]:
    """Return every step, inputs before their readers."""
    # imported here because the pages import torch, which takes seconds that `recsys --help` need not wait for
    from pipelines import distill, evaluate, index, metatrain, prepare, pretrain, publish

    pages = (prepare, pretrain, metatrain, distill, index, evaluate, publish)
    steps = (page.STEP for page in pages)
    return tuple(_made_by_threads(step) if step.name in TRAINING else step for step in steps)


def _made_by_threads(step: Step) -> Step:
    def settings(config: RunConfig) -> Settings:
        return {**step.settings(config), "threads": config.threads}

    return replace(step, settings=settings)
