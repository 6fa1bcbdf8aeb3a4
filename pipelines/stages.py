"""The pipeline in order: names for whoever only needs names, steps for whoever runs them."""

from typing import Final

from pipelines.steps import Step

NAMES: Final = ("prepare", "pretrain", "metatrain", "distill", "index", "evaluate", "publish")


def all_steps() -> tuple[Step, ...]:
    """Return every step, inputs before their readers."""
    # imported here because the pages import torch, which takes seconds that `recsys --help` need not wait for
    from pipelines import distill, evaluate, index, metatrain, prepare, pretrain, publish

    pages = (prepare, pretrain, metatrain, distill, index, evaluate, publish)
    return tuple(page.STEP for page in pages)
