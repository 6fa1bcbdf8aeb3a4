"""How a served list is drawn from scores, with the exact probability of what was drawn.

The propensity of an item is its probability given the state and the items above it; their product is the list's.
Plackett-Luce draws without replacement from softmax(score / temperature), in one pass by the Gumbel trick (Kool et al.
2019); greedy is its limit and has propensity 1.
"""

import numpy as np

from recsys.config import ExplorationConfig
from recsys.types import FloatArray, IntArray

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
