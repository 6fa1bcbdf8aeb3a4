"""What lists are like besides right: how much of the catalogue they show, how new, how varied, how like the user.

Lists are item indices, (user, position), −1 for an empty place; everything but coverage has one value per user.
"""

import numpy as np
import numpy.typing as npt

from recsys.types import FloatArray, IntArray, RealArray


def catalogue_coverage(ranked: IntArray, items: int) -> float:
    """Return the share of the catalogue that stands in at least one list."""
    shown = np.unique(ranked[ranked >= 0])
    return len(shown) / max(items, 1)


def concentration(ranked: IntArray, items: int) -> float:
    """Return the Gini coefficient of how often items are shown: 0 all alike, near 1 a few get everything."""
    counts = np.sort(np.bincount(ranked[ranked >= 0], minlength=items)).astype(np.float64)
    total = counts.sum()
    if not total:
        return 0.0
    place = np.arange(1, items + 1)
    return float((2.0 * place - items - 1.0) @ counts / (items * total))


def novelty(ranked: IntArray, popularity: npt.NDArray[np.floating]) -> FloatArray:
    """Return the mean self-information −log2((n_i + 1) / (N + items)) of a list's items; (user,).

    n_i interactions with an item, N with all. Zhou et al. (2010), with one added so that unseen items are finite.
    """
    share = (popularity.astype(np.float64) + 1.0) / (popularity.sum() + len(popularity))
    return _mean_of_shown(-np.log2(share), ranked)


def diversity(ranked: IntArray, vectors: npt.NDArray[np.floating]) -> FloatArray:
    """Return 1 − the mean cosine of the pairs of a list's items, (user,); vectors (item, feature), such as categories.

    Intra-list diversity, Ziegler et al. (2005), by the identity Σ_{a<b} ⟨a, b⟩ = (|Σ a|² − Σ |a|²) / 2. A list of one
    has none: 0.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    shown = ranked >= 0
    rows = unit[np.maximum(ranked, 0)] * shown[:, :, None]  # (user, position, feature)
    count = shown.sum(axis=1)
    pairs = count * (count - 1) / 2.0
    own = (rows**2).sum(axis=(1, 2))
    together = ((rows.sum(axis=1) ** 2).sum(axis=1) - own) / 2.0
    apart: FloatArray = np.where(pairs > 0, 1.0 - together / np.maximum(pairs, 1.0), 0.0).astype(np.float32)
    return apart


def miscalibration(
    ranked: IntArray,
    taste: npt.NDArray[np.floating],
    categories: npt.NDArray[np.floating],
    smoothing: float = 0.01,
) -> FloatArray:
    """Return KL(p ‖ (1 − α) q + α p) of what a user had and what the list shows, by category; (user,). Steck (2018).

    `taste` (user, category) is p, `categories` (item, category) are item shares; rows need not sum to 1. 0 is
    calibrated; a user without history has 0.
    """
    given = _shares(taste.astype(np.float64))
    rows = _shares(categories.astype(np.float64))[np.maximum(ranked, 0)] * (ranked >= 0)[:, :, None]
    shown = _shares(rows.sum(axis=1))
    mixed = (1.0 - smoothing) * shown + smoothing * given
    terms = np.where(given > 0, given * np.log(np.maximum(given, 1e-300) / np.maximum(mixed, 1e-300)), 0.0)
    divergence: FloatArray = terms.sum(axis=1).astype(np.float32)
    return divergence


def _shares(rows: RealArray) -> RealArray:
    total = rows.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, total, out=np.zeros(rows.shape), where=total > 0), np.float64)


def _mean_of_shown(worth: RealArray, ranked: IntArray) -> FloatArray:
    shown = ranked >= 0
    total = (worth[np.maximum(ranked, 0)] * shown).sum(axis=1)
    mean: FloatArray = (total / np.maximum(shown.sum(axis=1), 1)).astype(np.float32)
    return mean
