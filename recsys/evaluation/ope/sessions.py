"""Estimates of sessions whose weights are normalised over all sessions, and their intervals by resampled users.

What a step counts hangs on every session (a mean weight, a visited share), so an interval must fit those anew in each
resample: Poisson counts of users, the same for all estimators. A quantile of few users is no large-sample statement.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.marginal import state_ratios
from recsys.evaluation.ope.trajectories import Trajectories
from recsys.types import LongArray, RealArray

RESAMPLES: Final = 200


@dataclass(frozen=True)
class _Weighed:
    """Sessions with how often each counts."""

    sessions: Trajectories
    state: LongArray
    counts: RealArray  # (session,)

    @property
    def _per_step(self) -> RealArray:
        return self.counts[self.sessions.session]

    def _mean_weight(self) -> RealArray:
        """Mean over all sessions of w_0:t, the ended ones with their last, by t, (horizon,)."""
        sessions = self.sessions
        lengths = np.diff(sessions.offsets)
        horizon = int(lengths.max(initial=0))
        living = np.bincount(sessions.step, sessions.weight * self._per_step, minlength=horizon)
        ended = np.bincount(lengths, sessions.last_weight * self.counts, minlength=horizon + 1)[:horizon]
        mean: RealArray = (living + np.cumsum(ended)) / max(float(self.counts.sum()), 1e-300)
        return mean

    def values(self) -> dict[str, float]:
        """Return every estimate."""
        sessions, total = self.sessions, max(float(self.counts.sum()), 1e-300)
        mean, step = self._mean_weight(), sessions.step
        now = _divided(sessions.weight, mean[step])
        gained = sessions.discounting * self._per_step
        ratio = sessions.chosen / sessions.propensity
        rho = state_ratios(sessions, self.state, self.counts)
        out = {
            "weighted per-decision": float(gained @ (now * sessions.reward)) / total,
            "marginalised": float(gained @ (rho * ratio * sessions.reward)) / total,
        }
        if sessions.q_logged is not None and sessions.value is not None:
            before = np.where(step == 0, 1.0, _divided(sessions.weight_before, mean[np.maximum(step - 1, 0)]))
            corrected = now * (sessions.reward - sessions.q_logged) + before * sessions.value
            out["weighted dr"] = float(gained @ corrected) / total
        return out


def session_estimates(
    sessions: Trajectories,
    state: LongArray,  # (step,) an aggregation; what it leaves out is a bias of the marginalised estimate
    user: LongArray,  # (session,) numbered from 0
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return weighted per-decision IS, weighted DR (with a model) and marginalised IS, with percentile intervals."""
    values = _Weighed(sessions, state, np.ones(len(sessions))).values()
    users = int(user.max(initial=-1)) + 1
    drawn = np.array(
        [
            list(
                _Weighed(sessions, state, generator.poisson(1.0, users)[user].astype(np.float64))
                .values()
                .values()
            )
            for _ in range(resamples)
        ]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return {
        name: Interval(value, float(low[place]), float(high[place]))
        for place, (name, value) in enumerate(values.items())
    }


def _divided(top: RealArray, bottom: RealArray) -> RealArray:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
