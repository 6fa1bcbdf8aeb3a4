"""How a served list is drawn from scores, with the exact probability of what was drawn.

The propensity of an item is its probability given the state and the items above it; their product is the list's.
Plackett-Luce draws without replacement from softmax(score / temperature), in one pass by the Gumbel trick (Kool et al.
2019); greedy is its limit and has propensity 1.
"""

import numpy as np

from recsys.config import ExplorationConfig
from recsys.types import FloatArray, IntArray


def policy_name(config: ExplorationConfig, ranker: str = "") -> str:
    """Return the policy as logs show it; what ranks stands before a slash, if it has a name."""
    drawn = "greedy" if config.kind == "greedy" else f"plackett_luce(temperature={config.temperature:g})"
    return f"{ranker}/{drawn}" if ranker else drawn


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
