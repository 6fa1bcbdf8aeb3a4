"""CPU time of one Q-learning update beside a bare torch loop, d3rlpy and Tianshou; `make bench` runs it.

    python -m tests.benchmarks.bench_dqn

Same shapes for all: 100 000 transitions, state 64, 50 actions, batch 256, MLP 256 x 256, float32, one thread, Adam,
Huber loss, a hard target copy every 8000 updates. A step is what a user of the library runs: sample a batch, update.
Rows "by hand" are the same arithmetic without autograd, flattened and written out: a peer's time over theirs is about
what a processor allows anybody. Every library multiplies as it comes ("default"), then all with oneDNN's products
where they are exact ("onednn"). Every row is a process; they take turns, ROUNDS times, so that a busy machine slows
all alike; figures are medians of CPU time.

The peers live in environments of their own, which `make bench-peers` creates; BENCH_D3RLPY_PYTHON and
BENCH_TIANSHOU_PYTHON name other interpreters. A row whose interpreter is missing is left out and says why.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.dqn_workers.worker import BATCH, write_log

ROOT = Path(__file__).parents[2]
WORKERS = Path(__file__).parent / "dqn_workers"
ROUNDS = 15
STEPS = 30  # of each worker in each round
KERNELS = ("default", "onednn")


@dataclass(frozen=True)
class Row:
    """One line of the table: which worker, of which algorithm, by which interpreter."""

    name: str
    script: str
    kind: str
    interpreter: str


@dataclass(frozen=True)
class Goal:
    """A ratio that is aimed at: CPU time of `slower` over that of `faster`."""

    faster: str
    slower: str
    ratio: float


GOALS = (
    Goal("ours, DoubleDQN", "d3rlpy, DoubleDQN", 3.0),
    Goal("ours, CQL", "d3rlpy, DiscreteCQL", 3.0),
    Goal("ours, DQN", "Tianshou, DQN", 1.6),
    Goal("ours, DQN", "bare torch, DQN", 1 / 1.1),
    Goal("ours, DoubleDQN", "bare torch, DoubleDQN", 1 / 1.1),
    Goal("ours, CQL", "bare torch, CQL", 1 / 1.1),
)
SAMPLING_MS = 0.3


def rows() -> list[Row]:
    """Return every row that this machine could run."""
    d3rlpy = os.environ.get("BENCH_D3RLPY_PYTHON", str(ROOT / ".bench/d3rlpy/bin/python"))
    tianshou = os.environ.get("BENCH_TIANSHOU_PYTHON", str(ROOT / ".bench/tianshou/bin/python"))
    ours = sys.executable
    return [
        Row("ours, DQN", "ours.py", "dqn", ours),
        Row("ours, DoubleDQN", "ours.py", "double", ours),
        Row("ours, CQL", "ours.py", "cql", ours),
        Row("ours, DQN, prioritized", "ours.py", "prioritized", ours),
        Row("bare torch, DQN", "bare.py", "dqn", ours),
        Row("bare torch, DoubleDQN", "bare.py", "double", ours),
        Row("bare torch, CQL", "bare.py", "cql", ours),
        Row("by hand, DQN", "by_hand.py", "dqn", ours),
        Row("by hand, DoubleDQN", "by_hand.py", "double", ours),
        Row("by hand, CQL", "by_hand.py", "cql", ours),
        Row("d3rlpy, DQN", "d3rlpy_peer.py", "dqn", d3rlpy),
        Row("d3rlpy, DoubleDQN", "d3rlpy_peer.py", "double", d3rlpy),
        Row("d3rlpy, DiscreteCQL", "d3rlpy_peer.py", "cql", d3rlpy),
        Row("Tianshou, DQN", "tianshou_peer.py", "dqn", tianshou),
        Row("Tianshou, DoubleDQN", "tianshou_peer.py", "double", tianshou),
        Row("our sampling, uniform", "ours.py", "sample", ours),
        Row("our sampling, prioritized", "ours.py", "sample-prioritized", ours),
    ]


class Worker:
    """A running row."""

    def __init__(self, row: Row, log: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [row.interpreter, str(WORKERS / row.script), str(log), row.kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        while (line := self._read()) != "ready":  # a library may say things while it is imported
            if line or self._process.poll() is None:
                continue
            raise RuntimeError(f"{row.script} {row.kind} did not start; run it by hand: {row.interpreter}")

    def steps(self, count: int, kernels: str) -> float | None:
        """Take steps and return milliseconds of CPU time per step, None where the kernels would be inexact."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count} {kernels}\n")
        self._process.stdin.flush()
        answer = self._read()
        return None if answer == "inexact" else float(answer) * 1e3 / count

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


Figures = dict[tuple[str, str], list[float]]  # (row, kernels) -> milliseconds per step of each round


def measured(wanted: list[Row], log: Path) -> Figures:
    """Let the rows take turns; return milliseconds of each round."""
    workers = {row.name: Worker(row, log) for row in wanted}
    figures: Figures = {}
    try:
        for turn in range(ROUNDS + 1):
            for name, worker in workers.items():
                for kernels in KERNELS:
                    took = worker.steps(STEPS, kernels)
                    if turn > 0 and took is not None:  # the first turn warms up
                        figures.setdefault((name, kernels), []).append(took)
    finally:
        for worker in workers.values():
            worker.close()
    return figures


def report(figures: Figures) -> None:
    """Print the table and what was aimed at."""
    middle = {key: median(values) for key, values in figures.items()}
    print(f"\nCPU time of one update, medians of {ROUNDS} rounds of {STEPS}; load {os.getloadavg()[0]:.1f}")
    for kernels in KERNELS:
        names = [name for name, of in middle if of == kernels]
        if not names:
            print(f"\nkernels {kernels}: inexact on this processor, left out")
            continue
        print(f"\nkernels {kernels:22} ms/step  fastest round  transitions per CPU second")
        for name in names:
            took, best = middle[name, kernels], min(figures[name, kernels])
            print(f"  {name:28} {took:7.3f} {best:14.3f} {BATCH / took * 1e3:27,.0f}")
        for goal in GOALS:
            if (goal.faster, kernels) in middle and (goal.slower, kernels) in middle:
                ratio = middle[goal.slower, kernels] / middle[goal.faster, kernels]
                print(f"  {goal.slower} / {goal.faster}: {ratio:.2f} x, aimed at {goal.ratio:.2f}")
    print(f"sampling is aimed at {SAMPLING_MS} ms at most")


def bench(folder: Path) -> None:
    """Measure every row whose interpreter is there."""
    wanted = rows()
    for row in wanted:
        if not Path(row.interpreter).exists():
            print(f"{row.name} is left out: no {row.interpreter}; `make bench-peers` creates it")
    log = folder / "log.npz"
    write_log(log)
    report(measured([row for row in wanted if Path(row.interpreter).exists()], log))


def test_speed_of_an_update_beside_its_peers(tmp_path: Path) -> None:
    bench(tmp_path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        bench(Path(scratch))
