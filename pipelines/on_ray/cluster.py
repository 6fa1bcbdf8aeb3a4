"""The connection to a Ray cluster: the one of an address, or one of this machine alone."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext
from ray.data.context import ShuffleStrategy

from recsys.errors import UserError

LOCAL = "local"  # address of a cluster that is this machine and ends with the command


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Hold a connection while the block runs; one that there is already is used and left.

    Raises UserError if nobody answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        ray.init(
            address=address or "auto",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address == LOCAL else None,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no Ray cluster at {address or 'auto'} ({reason}); begin one with `ray start --head`, give its "
            f"--address host:port, or --address {LOCAL} for this machine alone"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def quiet_data() -> None:
    """Let Ray Data shuffle by tasks, which a dead node's lineage brings back, and say nothing."""
    context = DataContext.get_current()
    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def cpus() -> int:
    """Return how many CPUs the cluster has now."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
