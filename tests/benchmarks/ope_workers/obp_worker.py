"""Open Bandit Pipeline's seven estimators on the benchmark's log; runs in .bench/ope."""

import json
import resource
import sys
import time

import numpy as np
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    DoublyRobustWithShrinkage,
    InverseProbabilityWeighting,
    SelfNormalizedDoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SwitchDoublyRobust,
)


def main(rounds: int, actions: int) -> None:
    generator = np.random.default_rng(0)  # the same log as in bench_replay.made
    evaluation = generator.random((rounds, actions), np.float32)
    evaluation /= evaluation.sum(axis=1, keepdims=True)
    action = generator.integers(0, actions, rounds)
    reward = (generator.random(rounds) < 0.05).astype(np.float64)
    q_values = generator.random((rounds, actions), np.float32)
    given = {
        "action": action,
        "reward": reward,
        "pscore": np.full(rounds, 1.0 / actions),
        "position": np.zeros(rounds, int),
        "action_dist": evaluation[:, :, None],
        "estimated_rewards_by_reg_model": q_values[:, :, None],
    }
    estimators = {
        "ips": InverseProbabilityWeighting(),
        "snips": SelfNormalizedInverseProbabilityWeighting(),
        "dm": DirectMethod(),
        "dr": DoublyRobust(),
        "sndr": SelfNormalizedDoublyRobust(),
        "switch": SwitchDoublyRobust(lambda_=3.0),
        "dros": DoublyRobustWithShrinkage(lambda_=3.0),
    }
    begun = time.process_time()
    values = {name: float(estimator.estimate_policy_value(**given)) for name, estimator in estimators.items()}
    seconds = time.process_time() - begun
    begun = time.process_time()
    estimators["ips"].estimate_interval(**given, n_bootstrap_samples=20, random_state=0)
    per_replicate = (time.process_time() - begun) / 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps({"values": values, "seconds": seconds, "per_replicate": per_replicate, "peak_gib": peak})
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
