"""A real Ray cluster on loopback: node processes with little memory, any of which can be killed by what it is doing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORE_BYTES = 80_000_000
QUICK_DEATH = {  # so that the others soon know
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


class Nodes:
    """A head without CPUs, which is never killed, and nodes with one CPU each."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_system_config": QUICK_DEATH,
            },
        )
        self.count = count
        self.alive = [self._add() for _ in range(count)]

    def _add(self):  # type: ignore[no-untyped-def]
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, include_dashboard=False)

    def doing(self, what: str) -> list[int]:
        """Return which nodes have a worker process whose title holds a word, such as `ServeReplica`."""
        return [
            place for place, node in enumerate(self.alive) if any(what in title for title in _titles(node))
        ]

    def kill(self, place: int) -> None:
        """Kill a node's processes."""
        self.cluster.remove_node(self.alive.pop(place), allow_graceful=False)

    def refill(self) -> None:
        """Begin a node in the place of each that was killed; Ray wants the main thread for that."""
        while len(self.alive) < self.count:
            self.alive.append(self._add())

    @contextmanager
    def one_killed_when(self, ready: Callable[[], bool], what: str) -> Iterator[list[str]]:
        """Kill a node that does `what` once something is `ready`, while the block runs; the list says so."""
        killed: list[str] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                if ready() and (busy := self.doing(what)):
                    killed.append(what)
                    self.kill(busy[-1])
                    return
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield killed
        finally:
            over.set()
            watcher.join()
            self.refill()

    def stop(self) -> None:
        """End every node."""
        self.cluster.shutdown()


def _titles(node) -> list[str]:  # type: ignore[no-untyped-def]
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == raylet:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it has ended meanwhile
                continue
    return found


@contextmanager
def running_nodes(count: int) -> Iterator[Nodes]:
    """Start a cluster and connect to it; both end with the block."""
    import ray

    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    nodes = Nodes(count)
    try:
        ray.init(address=nodes.cluster.address, log_to_driver=False, logging_level="ERROR")
        yield nodes
    finally:
        ray.shutdown()
        nodes.stop()
        os.environ.clear()
        os.environ.update(before)
