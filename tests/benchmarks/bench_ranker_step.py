"""CPU time of one training step of the ranker by the size of its catalogue; `make bench` runs it.

    python -m tests.benchmarks.bench_ranker_step

Same batch for all: 64 windows of 30 events, 512 negatives, 20 candidates a state, default networks. The aim is that a
step at a million items takes at most 1.5 times that at ten thousand. What is done once an epoch stands beside it.
"""

import time
from statistics import median

import numpy as np
import torch

from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.target_network import frozen_copy, soft_update
from recsys.mdp.state import StateBatch, lay_tokens
from recsys.models.q_network import NetworkShape, QNetwork

CATALOGUES = (10_000, 100_000, 1_000_000)  # items
WINDOWS, EVENTS = 64, 30
STEPS = 8


def random_batch(items: int, generator: np.random.Generator) -> StateBatch:
    count = WINDOWS * EVENTS
    return lay_tokens(
        item=generator.integers(0, items, count),
        event_type=generator.integers(0, 4, count),
        reward=np.ones(count, np.float32),
        timestamp=np.sort(generator.integers(0, 10**6, count)),
        session=np.zeros(count, np.int32),
        lengths=np.full(WINDOWS, EVENTS),
        attributes=np.ones((WINDOWS, 1), np.int32),
    )


class Training:
    """A ranker that learns from random histories."""

    def __init__(self, items: int) -> None:
        self.items = items
        shape = NetworkShape(
            items=items,
            content_features=64,
            item_features=64,
            hidden=96,
            layers=1,
            encoder="recurrent",
            event_types=4,
            attribute_sizes=(2,),
            max_events=50,
            dropout=0.2,
            id_dropout=0.1,
        )
        torch.manual_seed(0)
        config = PretrainConfig()
        self.network = QNetwork(shape, config.temperature)
        self.target = frozen_copy(self.network, share_tables=True)
        self.learner = DQNLearner(
            self.network,
            self.target,
            NegativeSampler.from_popularity(np.ones(items, np.float32)),
            config,
            (-10.0, 10.0),
            torch.Generator().manual_seed(0),
        )
        self.optimizer = optimizer_for(self.network, config.learning_rate, config.weight_decay)
        self.rate = config.target_tau
        self.chance = np.random.default_rng(0)
        began = time.process_time()
        self.learner.refresh_index()
        self.refresh_s = time.process_time() - began

    def step_ms(self) -> float:
        """Take one step and return milliseconds of CPU time."""
        batch = random_batch(self.items, self.chance)
        began = time.process_time()
        step(self.optimizer, self.learner.losses(batch).total)
        soft_update(self.target, self.network, self.rate)
        return (time.process_time() - began) * 1e3


def bench() -> None:
    """Let catalogues take turns; print medians."""
    torch.set_num_threads(1)
    trainings = [Training(items) for items in CATALOGUES]
    took: dict[int, list[float]] = {items: [] for items in CATALOGUES}
    for turn in range(STEPS + 2):
        for training in trainings:
            spent = training.step_ms()
            if turn > 1:  # the first steps allot the moments
                took[training.items].append(spent)
    least = median(took[CATALOGUES[0]])
    print("\nCPU time of one training step of the ranker")
    for training in trainings:
        middle = median(took[training.items])
        print(
            f"  {training.items:>9,} items {middle:8.1f} ms/step, {middle / least:5.2f} x; "
            f"index once an epoch {training.refresh_s:6.2f} s"
        )
    print("aimed at 1.50 x at most")


def test_speed_of_a_step_by_catalogue() -> None:
    bench()


if __name__ == "__main__":
    bench()
