"""CPU time of adapting to a user; `make bench` runs it.

    python -m tests.benchmarks.bench_adaptation

256 features, one thread, CPU time, medians over turns. The aims: one user with ten events at most .3 ms, a further
event at most .05 ms, 256 users at once at most .1 ms each. One user is adapted as a request does it, and by the batched
form of training and evaluation, whose time for one is PyTorch's dispatch. Beside them the same posterior mean from
numpy's normal equations over features, which is what a solve without the dual form costs.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from recsys.adaptation import AdaptationPrior, SupportSet
from recsys.mdp.state import History
from recsys.models.request_state import RequestStates
from recsys.posterior import Posterior
from recsys.request_form import RequestPrior

FEATURES, EVENTS, USERS = 256, 10, 256
TURNS = 60


def support_of(users: int) -> tuple[torch.Tensor, SupportSet]:
    generator = torch.Generator().manual_seed(0)
    shape = (users, EVENTS)
    said = {name: torch.randn(shape, generator=generator) for name in ("reward", "target", "mean_q", "q")}
    support = SupportSet(
        item=torch.zeros(shape, dtype=torch.long),
        event_type=torch.zeros(shape, dtype=torch.long),
        present=torch.ones(shape, dtype=torch.bool),
        attributes=torch.zeros(users, 0, dtype=torch.long),
        **said,
    )
    return torch.randn(users, EVENTS, FEATURES, generator=generator) / FEATURES**0.5, support


def normal_equations(features: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    precision = features.T @ features + np.eye(FEATURES)
    return np.asarray(np.linalg.solve(precision, features.T @ evidence))


def milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


@torch.inference_mode()
def bench() -> None:
    """Let all of them take turns; print medians."""
    torch.set_num_threads(1)
    prior = AdaptationPrior(FEATURES, 4)
    one, many = support_of(1), support_of(USERS)
    rows = one[0][0].numpy().astype(np.float64)
    evidence = np.ones(EVENTS)

    as_asked = RequestPrior(prior, 0.5)
    count, zeros = np.zeros(EVENTS, np.intp), np.zeros(EVENTS, np.float32)
    history = History(count, count, np.ones(EVENTS, np.float32), count, count, np.zeros(0, np.int32))
    around = np.zeros(EVENTS + 1, np.float32)
    states = RequestStates(np.zeros((EVENTS + 1, 1), np.float32), around, around)
    single = rows.astype(np.float32)

    def another_event(forgetting: float) -> float:
        posterior = Posterior(np.zeros(FEATURES), 1.0, forgetting)
        for row in rows[:-1]:
            posterior.observe(row)

        def work() -> None:
            posterior.observe(rows[-1])
            posterior.mean(evidence)

        return milliseconds(work)

    contestants: dict[str, Callable[[], float]] = {
        "one user, ten events, as a request": lambda: milliseconds(
            lambda: as_asked.adapt(single, history, states, zeros, zeros)
        ),
        "one user, ten events, batched form": lambda: milliseconds(lambda: prior.adapt(*one)),
        "the same by numpy's normal equations": lambda: milliseconds(
            lambda: normal_equations(rows, evidence)
        ),
        "one more event, nothing forgotten": lambda: another_event(1.0),
        "one more event, with forgetting": lambda: another_event(0.99),
        "256 users at once, each": lambda: milliseconds(lambda: prior.adapt(*many)) / USERS,
    }
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(TURNS):
        for name, timed in contestants.items():
            timed()  # the one before it had the caches to itself
            spent = timed()
            if turn > 4:
                took[name].append(spent)
    print("\nCPU time of adapting to a user")
    for name, times in took.items():
        print(f"  {name:<38} {median(times):7.3f} ms")
    print("aimed at .3, .05 and .1 ms at most")


def test_speed_of_adaptation() -> None:
    bench()


if __name__ == "__main__":
    bench()
