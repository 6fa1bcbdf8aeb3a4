"""Where a command's work is done: here, or on a Ray cluster. Ray is imported only where it is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from recsys.errors import UserError

if TYPE_CHECKING:
    from pipelines.steps import Step


class Where(StrEnum):
    """A place."""

    HERE = "here"
    RAY = "ray"


def require_ray() -> None:
    """Raise UserError if the extra is not installed."""
    try:
        import pipelines.on_ray.cluster  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise UserError("--on ray needs Ray, which is not installed; pip install 'metaq[ray]'") from None


@contextmanager
def placed_steps(where: Where, address: str | None, workers: int = 1) -> "Iterator[tuple[Step, ...]]":
    """Give the pipeline's steps as the place runs them, connected to it while the block runs.

    Raises UserError if Ray is asked for and not installed, or no cluster answers.
    """
    from pipelines.stages import all_steps

    if where == Where.HERE:
        if workers > 1:
            raise UserError(
                f"--workers is {workers}, must be 1 here; give --on ray, or begin them with torchrun"
            )
        yield all_steps()
        return
    require_ray()
    from pipelines.on_ray.cluster import connected
    from pipelines.on_ray.steps import steps_on_ray

    with connected(address):
        yield steps_on_ray(all_steps(), workers)
