"""What a user's events have taught so far, event by event: the posterior of fast weights, kept up to date.

With y_t the evidence of event t, φ_t its item's whitened features and ω_t = ρ^{k−1−t} its weight after k events, the
posterior mean minimises

    |w − w_0|² + Σ_t ω_t (y_t − wᵀφ_t)² / σ²,

the objective that recsys/adaptation.py solves at once. Kept is the Cholesky factor of ΦΦᵀ + σ² diag(1/ω) over the
newest events. A further event without forgetting (ρ = 1) is a rank-1 step of the precision and borders the factor, in
O(k d + k²); with forgetting every diagonal entry moves and the small factor is made anew, in O(k d + k³ / 3). Evidence
may change after the event (longer returns of earlier events become known), so the right-hand side is handed over whole.
"""

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky
from scipy.linalg.lapack import dtrtrs

Float64Array = npt.NDArray[np.float64]


class Posterior:
    """Posterior of one user's fast weights, N(w_0, I) at first; bounded by the number of events it keeps."""

    def __init__(
        self,
        prior_mean: npt.ArrayLike,  # w_0, (feature,)
        noise: float,  # σ²
        forgetting: float = 1.0,  # ρ; 1 = an old event counts as a new one
        max_events: int = 50,
    ) -> None:
        if not noise > 0:
            raise ValueError(f"noise is {noise}, must be above 0: without it a solve is not defined")
        if not 0 < forgetting <= 1:
            raise ValueError(f"forgetting is {forgetting}, must lie in (0, 1]; 1 forgets nothing")
        if max_events < 1:
            raise ValueError(f"max_events is {max_events}, must be at least 1")
        self.prior_mean: Float64Array = np.array(prior_mean, np.float64)
        self.noise = noise
        self.forgetting = forgetting
        self.max_events = max_events
        self._features = np.zeros((max_events, len(self.prior_mean)))
        self._gram = np.zeros((max_events, max_events))
        self._factor = np.zeros((max_events, max_events))
        self._events = 0

    def __len__(self) -> int:
        return self._events

    @property
    def features(self) -> Float64Array:
        """Features of the events that are kept, oldest first, (event, feature)."""
        return self._features[: self._events]

    def observe(self, features: npt.ArrayLike) -> None:
        """Take in one event by its item's whitened features, (feature,); beyond the bound the oldest event goes."""
        row: Float64Array = np.asarray(features, np.float64)
        if self._events == self.max_events:
            self._drop_oldest()
        place = self._events
        products = self._features[:place] @ row
        self._features[place] = row
        self._gram[place, :place] = self._gram[:place, place] = products
        self._gram[place, place] = row @ row
        self._events += 1
        if self.forgetting < 1.0:
            self._factorise()
            return
        border = _solved(self._factor[:place, :place], products)
        self._factor[place, :place] = border
        self._factor[place, place] = np.sqrt(self._gram[place, place] + self.noise - border @ border)

    def mean(self, evidence: npt.ArrayLike) -> Float64Array:
        """Return w_u, (feature,), given the evidence of the kept events, oldest first, (event,).

        Raises ValueError if there is not one number per event.
        """
        said: Float64Array = np.asarray(evidence, np.float64)
        if said.shape != (self._events,):
            raise ValueError(
                f"evidence has shape {said.shape}, must be ({self._events},): one number per event"
            )
        if not self._events:
            return self.prior_mean.copy()
        factor = self._factor[: self._events, : self._events]
        residual = said - self.features @ self.prior_mean
        solved = _solved(factor, _solved(factor, residual), transposed=True)
        shifted: Float64Array = self.prior_mean + solved @ self.features
        return shifted

    def learnt(self) -> Float64Array:
        """Return D, (event, feature), with posterior covariance Σ = I − DᵀD."""
        factor = self._factor[: self._events, : self._events]
        return _solved(factor, self.features) if self._events else self.features.copy()

    def variance(self, features: npt.ArrayLike) -> Float64Array:
        """Return φᵀΣφ of items, (item,), from features, (item, feature)."""
        asked: Float64Array = np.asarray(features, np.float64)
        kept: Float64Array = (asked**2).sum(axis=1) - ((asked @ self.learnt().T) ** 2).sum(axis=1)
        return np.maximum(kept, 0.0)

    def sample(self, evidence: npt.ArrayLike, count: int, generator: np.random.Generator) -> Float64Array:
        """Return draws of the fast weights from the posterior, (count, feature).

        A draw from the prior is corrected by what it would have seen (Matheron's rule; Doucet 2010), so that Σ is
        never factorised: w = w_u + x − Φᵀ(ΦΦᵀ + σ²/ω)⁻¹(Φx + e), x ~ N(0, I), e ~ N(0, σ²/ω).
        """
        drawn: Float64Array = generator.standard_normal((count, len(self.prior_mean)))
        if not self._events:
            return self.prior_mean + drawn
        noise = np.sqrt(self._noise()) * generator.standard_normal((count, self._events))
        factor = self._factor[: self._events, : self._events]
        seen = drawn @ self.features.T + noise
        solved = _solved(factor, _solved(factor, seen.T), transposed=True)
        corrected: Float64Array = self.mean(evidence) + drawn - solved.T @ self.features
        return corrected

    def _noise(self) -> Float64Array:
        """Return σ² / ω_t, (event,)."""
        age = np.arange(self._events, dtype=np.float64)[::-1]
        return np.asarray(self.noise * self.forgetting**-age, np.float64)

    def _factorise(self) -> None:
        kept = self._events
        system = self._gram[:kept, :kept].copy()
        system[np.arange(kept), np.arange(kept)] += self._noise()
        self._factor[:kept, :kept] = cholesky(system, lower=True, overwrite_a=True, check_finite=False)

    def _drop_oldest(self) -> None:
        kept = self._events - 1
        self._features[:kept] = self._features[1 : self._events].copy()
        self._gram[:kept, :kept] = self._gram[1 : self._events, 1 : self._events].copy()
        self._events = kept
        if kept:
            self._factorise()


def _solved(factor: Float64Array, right: Float64Array, *, transposed: bool = False) -> Float64Array:
    """Return L⁻¹ b, or L⁻ᵀ b."""
    if not len(factor):
        return right
    # LAPACK itself: checks and copies of the general call cost more than the solve of so small a system
    solved, _ = dtrtrs(factor, right, lower=1, trans=1 if transposed else 0)
    return np.asarray(solved, np.float64)
