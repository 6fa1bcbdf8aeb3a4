"""How often a transition is replayed: prioritized sampling and the weights that undo its bias (Schaul et al. 2016).

    P(i) = p_i^α / Σ_k p_k^α,   p_i = |δ_i| + ε,   w_i = (N · P(i))^−β / max_j w_j

with the maximum over the drawn batch, so that the learning rate keeps its scale. β rises linearly to 1, where the
weights undo the sampling in full. What was never learnt from has the largest priority seen so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.mdp.sum_tree import SumTree
from recsys.mdp.transition_store import Array
from recsys.types import FloatArray, LongArray


@dataclass(frozen=True)
class PriorityRule:
    """Settings of prioritized sampling; the paper's for proportional priorities where it has one."""

    alpha: float = 0.6  # 0 = uniform
    beta: float = 0.4  # at the first draw
    anneal_draws: int = 100_000  # draws until β is 1
    epsilon: float = 1e-3  # of a TD error of 0, so that it is seen again
    sequence_mix: float = 0.9  # η of windows: η max|δ| + (1 − η) mean|δ| (Kapturowski et al. 2019)

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "sequence_mix"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise UserError(f"{name} is {value}, must be within [0, 1]; set it there")
        if self.anneal_draws < 1:
            raise UserError(
                f"anneal_draws is {self.anneal_draws}, must be 1 or more; set beta to 1 for no annealing"
            )
        if not 0.0 < self.epsilon < np.inf:
            raise UserError(
                f"epsilon is {self.epsilon}, must be positive, or an error of 0 is never seen again"
            )

    def beta_at(self, draw: int) -> float:
        """Return β of the draw with this number, the first being 0."""
        return self.beta + (1.0 - self.beta) * min(1.0, draw / self.anneal_draws)


class Priorities:
    """The priorities of `places` places; those never set are never drawn."""

    def __init__(self, places: int, rule: PriorityRule, draws: int = 0) -> None:
        self.rule = rule
        self._tree = SumTree(places)
        self._largest = 1.0
        self._draws = draws  # so far, which decides β

    def add(self, place: LongArray) -> None:
        """Give new transitions the largest priority seen."""
        self._tree.update(place, np.full(len(place), self._largest**self.rule.alpha))

    def set_errors(self, place: LongArray, td_error: npt.NDArray[np.floating]) -> None:
        """Set priorities from TD errors, (place,); raises UserError at one that is no finite number."""
        priority = np.abs(td_error.astype(np.float64)) + self.rule.epsilon
        self._tree.update(place, priority**self.rule.alpha)
        self._largest = max(self._largest, float(priority.max(initial=0.0)))

    def draw(
        self, count: int, stored: int, generator: np.random.Generator, beta: float | None = None
    ) -> tuple[LongArray, FloatArray]:
        """Draw places and their importance weights, both (count,); `stored` is N, how many transitions there are.

        Without `beta` it is that of as many draws as there were here.
        """
        place = self._tree.sample(count, generator)
        chance = self._tree[place] / self._tree.total
        weight = (stored * chance) ** -(self.rule.beta_at(self._draws) if beta is None else beta)
        self._draws += 1
        return place, (weight / weight.max(initial=1e-300)).astype(np.float32)

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Return P(i) of every place, (place,)."""
        return self._tree.weights / self._tree.total

    def state(self) -> dict[str, Array]:
        """Return what `restore` needs to go on exactly: arrays by name."""
        return {
            "weights": self._tree.weights,
            "largest": np.array(self._largest),
            "draws": np.array(self._draws),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a saved state; raises UserError if it is that of another number of places."""
        weights = np.asarray(state["weights"], np.float64)
        if len(weights) != self._tree.leaves:
            raise UserError(
                f"the saved priorities are of {len(weights)} places, must be of {self._tree.leaves}; "
                "resume with the replay they were saved from"
            )
        self._tree.update(np.arange(len(weights)), weights)
        self._largest, self._draws = float(state["largest"]), int(state["draws"])
