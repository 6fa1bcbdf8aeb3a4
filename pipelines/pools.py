"""Where the trials of a search are run: processes on this machine, or a Ray cluster."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipelines.places import Where, require_ray
from pipelines.tuning.desk import Pool
from pipelines.tuning.workers import run_here


@contextmanager
def pool_of(where: Where, address: str | None) -> Iterator[Pool]:
    """Give the pool of a place, connected while the block runs."""
    if where == Where.HERE:
        yield run_here
        return
    require_ray()
    from pipelines.on_ray.cluster import connected
    from pipelines.on_ray.tuning import run_on_ray

    with connected(address), tempfile.TemporaryDirectory(prefix="recsys-tune-") as scratch:
        yield partial(run_on_ray, scratch=Path(scratch))
