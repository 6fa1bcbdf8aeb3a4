"""The library's bandits of known value (recsys/evaluation/ope/synthetic.py), logged by way of whole tables.

Its own `log` draws and reduces at once; here actions are drawn apart and `reduce_rounds` reads whole distributions, as
a user's log does. Two ways to the same rounds hold each other.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.evaluation.ope.rounds import Rounds, reduce_rounds
from recsys.evaluation.ope.synthetic import SyntheticBandit
from recsys.evaluation.ope.synthetic import softmax as softmax

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bandit(SyntheticBandit):
    """Kinds of contexts are equally likely; the model is given with each log."""

    def log(  # type: ignore[override]
        self,
        rounds: int,
        generator: np.random.Generator,
        model: Table | None = None,
        known_weight: bool = True,
        per_cluster: int = 1,
    ) -> Rounds:
        kind = generator.integers(len(self.mean), size=rounds)
        action = drawn(self.behaviour[kind], generator)
        mean = self.mean[kind, action]
        if self.noise:
            reward = mean + self.noise * generator.normal(size=rounds)
        else:
            reward = (generator.random(rounds) < mean).astype(float)
        return reduce_rounds(
            action,
            reward,
            self.behaviour[kind, action],
            self.evaluation[kind],
            None if model is None else model[kind],
            cluster=None if per_cluster == 1 else np.arange(rounds) // per_cluster,
            max_weight=self.max_weight if known_weight else np.inf,
        )


def drawn(table: Table, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw one action for each row of probabilities."""
    cumulative = np.cumsum(table, axis=1)
    return (generator.random((len(table), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)


def bandit(
    apart: float,
    actions: int = 20,
    kinds: int = 5,
    rate: float = 0.05,
    noise: float = 0.0,
    seed: int = 0,
    sharp: float = 0.5,
) -> Bandit:
    """Return a bandit whose policies are `apart`: 0 is the same policy, 1 moderate overlap, 3 hardly any."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(kinds, actions))
    other = generator.normal(size=(kinds, actions))
    mean = rate * generator.uniform(0.4, 1.6, (kinds, actions))
    return Bandit(mean, softmax(sharp * scores), softmax(sharp * scores + apart * other), noise=noise)
