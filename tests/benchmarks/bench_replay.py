"""Replay estimates beside Open Bandit Pipeline on the same arrays, bounded memory, ranking metrics.

Each contestant runs in a process of its own, whose CPU time and peak memory are its own. Nothing here has a time limit:
what is asserted is that both say the same.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".bench" / "ope" / "bin" / "python"
WORKER = Path(__file__).with_name("ope_workers") / "obp_worker.py"


def made(rounds: int, actions: int, seed: int) -> dict[str, np.ndarray]:
    """Return a log with tables in single precision, made a block at a time."""
    generator = np.random.default_rng(seed)
    evaluation = generator.random((rounds, actions), np.float32)
    evaluation /= evaluation.sum(axis=1, keepdims=True)
    return {
        "action": generator.integers(0, actions, rounds),
        "reward": (generator.random(rounds) < 0.05).astype(np.float64),
        "propensity": np.full(rounds, 1.0 / actions),
        "evaluation": evaluation,
        "q_values": generator.random((rounds, actions), np.float32),
    }


def ours(rounds: int, actions: int) -> None:
    """Estimate, then resample; print figures."""
    from recsys.evaluation.ope.accumulate import sum_rounds
    from recsys.evaluation.ope.clustered import bootstrap_intervals, clustered_intervals
    from recsys.evaluation.ope.estimators import (
        ClippedIPS,
        OptimisticShrinkageDR,
        SwitchDR,
        direct_method,
        doubly_robust,
        ips,
        self_normalised_dr,
        snips,
    )
    from recsys.evaluation.ope.rounds import reduce_rounds

    given = made(rounds, actions, 0)
    estimators = {
        "ips": ips, "snips": snips, "dm": direct_method, "dr": doubly_robust, "sndr": self_normalised_dr,
        "switch": SwitchDR(3.0), "dros": OptimisticShrinkageDR(3.0), "clipped": ClippedIPS(3.0),
    }  # fmt: skip
    begun = time.process_time()
    sums = sum_rounds(reduce_rounds(**given), estimators)
    seconds = time.process_time() - begun
    begun = time.process_time()
    bootstrap_intervals(sums, 1000, np.random.default_rng(1))
    per_replicate = (time.process_time() - begun) / 1000
    begun = time.process_time()
    clustered_intervals(sums)
    print_figures(
        dict(zip(sums.names, sums.estimates().tolist(), strict=True)), seconds, per_replicate, begun
    )


def print_figures(values: dict[str, float], seconds: float, per_replicate: float, begun: float) -> None:
    figures = {
        "values": values,
        "seconds": seconds,
        "per_replicate": per_replicate,
        "analytic": time.process_time() - begun,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(figures))


def stream(rounds: int) -> None:
    """Sum rounds that exist a chunk at a time."""
    from recsys.evaluation.ope.accumulate import sum_stream
    from recsys.evaluation.ope.clustered import clustered_intervals
    from recsys.evaluation.ope.estimators import doubly_robust, ips, self_normalised_dr, snips
    from recsys.evaluation.ope.rounds import Rounds

    def chunks() -> object:
        generator = np.random.default_rng(0)
        for first in range(0, rounds, 65_536):
            size = min(65_536, rounds - first)
            propensity = generator.uniform(0.05, 1.0, size)
            reward = (generator.random(size) < 0.05).astype(np.float64)
            users = (first + np.arange(size)) // 7
            q = generator.random(size)
            yield {"it": Rounds(reward, propensity, propensity * generator.random(size), q, q, users)}

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    begun = time.process_time()
    sums = sum_stream(chunks(), {"ips": ips, "snips": snips, "dr": doubly_robust, "sndr": self_normalised_dr})  # type: ignore[arg-type]
    clustered_intervals(sums)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps({"seconds": time.process_time() - begun, "grown_gib": after - before, "peak_gib": after})
    )


def ranking() -> None:
    """NDCG@10 of 20 000 users with 50 scored candidates."""
    from recsys.evaluation.ranking import graded_ndcg, ranked_gains, tie_order

    generator = np.random.default_rng(0)
    scores = generator.random((20_000, 50), np.float32)
    gain = (generator.random((20_000, 50)) < 0.1).astype(np.float32)
    ties = tie_order(50, 0)
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        graded_ndcg(ranked_gains(scores, gain, 10, ties), gain)
        seconds.append(time.process_time() - begun)
    print(json.dumps({"first": seconds[0], "median": sorted(seconds)[2]}))


def run(*command: object) -> dict[str, float]:
    """Run in a process of its own and return what it prints."""
    environment = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not PEERS.exists(), reason="no .bench/ope; `make bench-peers` makes it")
def test_point_estimates_and_intervals_beside_open_bandit_pipeline() -> None:
    mine = run(sys.executable, __file__, "ours", 1_000_000, 80)
    peer = run(PEERS, WORKER, 1_000_000, 80)
    for name, value in peer["values"].items():
        assert mine["values"][name] == pytest.approx(value, rel=1e-3)  # single precision there
    print(
        f"\n1 M rounds × 80 actions: {mine['seconds']:.2f} CPU s for 8 estimators and the log's mean, peak "
        f"{mine['peak_gib']:.2f} GiB; Open Bandit Pipeline {peer['seconds']:.2f} CPU s for 7, peak "
        f"{peer['peak_gib']:.2f} GiB: {peer['seconds'] / mine['seconds']:.0f} ×"
        f"\na bootstrap replicate of all of them {1e3 * mine['per_replicate']:.2f} ms; the peer's "
        f"{1e3 * peer['per_replicate']:.1f} ms for one estimator, {7e3 * peer['per_replicate']:.0f} ms for 7: "
        f"{7 * peer['per_replicate'] / mine['per_replicate']:.0f} ×; analytic intervals {1e3 * mine['analytic']:.1f} ms"
    )


def test_ten_million_rounds_in_bounded_memory() -> None:
    short = run(sys.executable, __file__, "stream", 1_000_000)
    long = run(sys.executable, __file__, "stream", 10_000_000)
    assert long["peak_gib"] < short["peak_gib"] + 0.05
    print(f"\n10 M rounds streamed: {long['seconds']:.1f} CPU s with making them, peak {long['peak_gib']:.2f} GiB; "
          f"1 M: {short['peak_gib']:.2f} GiB")  # fmt: skip


def test_ranking_metrics() -> None:
    figures = run(sys.executable, __file__, "ranking")
    print(
        f"\nNDCG@10 of 20 000 users × 50 items: {figures['median']:.3f} CPU s, first call {figures['first']:.3f}"
    )


if __name__ == "__main__":
    {"ours": ours, "stream": stream, "ranking": ranking}[sys.argv[1]](*map(int, sys.argv[2:]))
