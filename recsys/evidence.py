"""What to ask a new user: the items whose feedback would teach most.

An answer about item i is worth what it takes off the posterior variance of its own Q, φ_iᵀΣφ_i, times the chance that
the user knows the item and so can answer at all. Items are chosen one after the other, each as if the ones before had
been answered, so that no two ask the same: after item j, Σ ← Σ − u uᵀ with u = Σφ_j / √(σ² + φ_jᵀΣφ_j). The greedy
choice of experiments for Bayesian linear models (MacKay 1992, "Information-based objective functions", eq. 13), with
chances.
"""

import numpy as np
import numpy.typing as npt

from recsys.posterior import Float64Array
from recsys.types import LongArray


def what_to_ask(
    features: npt.ArrayLike,  # φ(i), (item, feature)
    known: npt.ArrayLike,  # chance that the user knows each item, up to a factor; (item,)
    count: int,
    noise: float,  # σ²
    learnt: npt.ArrayLike | None = None,  # D with Σ = I − DᵀD, (event, feature): `Posterior.learnt`
    allowed: npt.ArrayLike | None = None,  # (item,) bool
) -> LongArray:
    """Return at most `count` items in the order in which to ask, (question,).

    Raises ValueError where chances and features are not of the same items.
    """
    phi: Float64Array = np.asarray(features, np.float64)
    chance: Float64Array = np.asarray(known, np.float64)
    if chance.shape != (len(phi),):
        raise ValueError(f"known has shape {chance.shape}, must be ({len(phi)},): one chance per item")
    open_to_ask = chance > 0
    if allowed is not None:
        open_to_ask = open_to_ask & np.asarray(allowed, bool)
    said = np.zeros((0, phi.shape[1])) if learnt is None else np.asarray(learnt, np.float64)
    variance = (phi**2).sum(axis=1) - ((phi @ said.T) ** 2).sum(axis=1)
    chosen: list[int] = []
    for _ in range(min(count, int(open_to_ask.sum()))):
        worth = np.where(open_to_ask, chance * np.maximum(variance, 0.0), -np.inf)
        best = int(np.argmax(worth))
        chosen.append(best)
        open_to_ask[best] = False
        direction = phi[best] - said.T @ (said @ phi[best])  # Σφ_j
        direction /= np.sqrt(noise + max(variance[best], 0.0))
        variance -= (phi @ direction) ** 2
        said = np.concatenate([said, direction[None]])
    return np.array(chosen, np.int64)
