"""How a served list is drawn from scores, with the exact probability of what was drawn.

The propensity of an item is its probability given the state and the items above it; their product is the list's.
Plackett-Luce draws without replacement from softmax(score / temperature), in one pass by the Gumbel trick (Kool et al.
2019); greedy is its limit and has propensity 1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.config import ExplorationConfig
from recsys.types import BoolArray, FloatArray, IntArray, RealArray

TENTH = 10
NOISE = 1e-6  # scores closer than this, relative to their size, are equal


def policy_name(config: ExplorationConfig, ranker: str = "") -> str:
    """Return the policy as logs show it; what ranks stands before a slash, if it has a name."""
    drawn = "greedy" if config.kind == "greedy" else f"plackett_luce(temperature={config.temperature:g})"
    return f"{ranker}/{drawn}" if ranker else drawn


def spread(scores: FloatArray) -> float:
    """Return what lies between the first and the tenth of scores, (candidate,), best first: the unit of a temperature.

    Scores of baselines have scales of their own, which change with the length of a history; in this unit a temperature
    explores alike for all of them. Where ten are equal the last candidate takes the tenth's place; 1 if all are.
    """
    if not len(scores):
        return 1.0
    first = float(scores[0])
    for place in (min(TENTH, len(scores)), len(scores)):
        other = float(scores[place - 1])
        if first - other > NOISE * max(abs(first), abs(other), 1e-30):
            return first - other
    return 1.0


def draw_list(
    scores: FloatArray,  # (candidate,), best first
    count: int,
    config: ExplorationConfig,
    generator: np.random.Generator,
) -> tuple[IntArray, FloatArray]:
    """Return (places in `scores`, propensities) of a list, both (position,)."""
    count = min(count, len(scores))
    if config.kind == "greedy" or count == 0:
        return np.arange(count, dtype=np.int32), np.ones(count, np.float32)
    logits = (scores.astype(np.float64) - scores.max()) / config.temperature
    drawn = np.argsort(-(logits + generator.gumbel(size=len(logits))), kind="stable")
    drawn_logits = logits[drawn]
    # log Σ over the items not yet shown, for every position at once, from the tail of the drawn order
    remaining = np.logaddexp.accumulate(drawn_logits[::-1])[::-1]
    propensity = np.exp(drawn_logits[:count] - remaining[:count])
    return drawn[:count].astype(np.int32), propensity.astype(np.float32)


@dataclass(frozen=True)
class ListDistribution:
    """What a list could be: candidates, best first, drawn one after the other without replacement."""

    items: IntArray  # (candidate,)
    logits: RealArray | None  # (candidate,) of the draw; None: no draw, the best first

    def given_above(self, shown: npt.NDArray[np.integer]) -> RealArray:
        """Return the probability of each candidate at each position given what was shown above, (position, candidate).

        Shown items that are no candidates take nobody's place.
        """
        above = (self.items == np.asarray(shown)[:, None]).cumsum(
            axis=0
        ) > 0  # (position, candidate), at it or above
        taken: BoolArray = np.zeros_like(above)
        taken[1:] = above[:-1]
        if not len(self.items):
            return np.zeros(taken.shape)
        if self.logits is None:
            best = np.argmin(taken, axis=1)
            return np.where(taken, 0.0, np.eye(len(self.items))[best])
        left = np.where(taken, -np.inf, self.logits)
        top = left.max(axis=1, keepdims=True)
        shares = np.exp(left - np.where(np.isfinite(top), top, 0.0))
        total = shares.sum(axis=1, keepdims=True)
        probability: RealArray = shares / np.where(total > 0, total, 1.0)
        return probability

    def propensities(self, shown: npt.NDArray[np.integer]) -> RealArray:
        """Return the probability of each shown item given those above it, (position,); 0 for what is no candidate."""
        own = self.items == np.asarray(shown)[:, None]
        chances: RealArray = np.where(own, self.given_above(shown), 0.0).sum(axis=1)
        return chances


def list_distribution(scores: FloatArray, items: IntArray, config: ExplorationConfig) -> ListDistribution:
    """Return what `draw_list` draws from scores of items, (candidate,) both, best first."""
    if config.kind == "greedy":
        return ListDistribution(items, None)
    return ListDistribution(
        items, (scores.astype(np.float64) - scores.max(initial=-np.inf)) / config.temperature
    )
