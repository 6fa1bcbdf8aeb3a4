"""Estimators for sessions: the discounted return of a policy from its start, sessions of any length.

Steps of all sessions lie end to end. w_0:t is the product of the ratios up to step t of a session; a session that has
ended keeps its last weight and earns nothing, so that weighted forms divide by all sessions at every step and not by
those that happen to live.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.ope.estimators import Terms
from recsys.types import LongArray, RealArray


@dataclass(frozen=True)
class Trajectories:
    """Logged sessions and one evaluated policy; arrays of shape (step,) but `offsets`, (session + 1,)."""

    offsets: LongArray
    reward: RealArray
    propensity: RealArray
    chosen: RealArray
    discount: float
    q_logged: RealArray | None = None  # q̂(s_t, a_t)
    value: RealArray | None = None  # E_π q̂(s_t, ·)

    def __post_init__(self) -> None:
        steps = int(self.offsets[-1]) if len(self.offsets) else 0
        if not (len(self.reward) == len(self.propensity) == len(self.chosen) == steps):
            raise UserError(
                f"{len(self.reward):,} rewards, {len(self.propensity):,} propensities and {len(self.chosen):,} "
                f"probabilities for {steps:,} steps, must be as many; give one of each for every step"
            )
        if (np.diff(self.offsets) < 1).any():
            raise UserError(
                f"{int((np.diff(self.offsets) < 1).sum())} sessions have no step, must have at least 1; leave them out"
            )
        if not 0.0 <= self.discount <= 1.0:
            raise UserError(f"discount is {self.discount}, must lie in 0 to 1; change it")
        if steps and not (self.propensity.min() > 0.0 and self.propensity.max() <= 1.0 + 1e-9):
            raise UserError(
                f"propensities reach from {self.propensity.min():g} to {self.propensity.max():g}, must lie in above 0 "
                "to 1; leave sessions without known ones out"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def step(self) -> LongArray:
        """Place of each step in its session, (step,)."""
        place: LongArray = np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return place

    @cached_property
    def session(self) -> LongArray:
        """Session of each step, (step,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def weight(self) -> RealArray:
        """w_0:t, (step,): products within sessions, by sums of logarithms; 0 from the first impossible step on."""
        ratio = self.chosen / self.propensity
        possible = ratio > 0
        logs = np.cumsum(np.log(np.where(possible, ratio, 1.0)))
        broken = np.cumsum(~possible)
        first = self.offsets[:-1]
        start_log = np.concatenate([[0.0], logs])[first]
        start_broken = np.concatenate([[0], broken])[first]
        alive = broken == start_broken[self.session]
        return np.where(alive, np.exp(logs - start_log[self.session]), 0.0)

    @cached_property
    def weight_before(self) -> RealArray:
        """w_0:t−1, (step,); 1 at the start."""
        shifted = np.concatenate([[1.0], self.weight[:-1]])
        return np.where(self.step == 0, 1.0, shifted)

    @cached_property
    def discounting(self) -> RealArray:
        """γ^t, (step,)."""
        powers: RealArray = self.discount ** self.step.astype(np.float64)
        return powers

    @cached_property
    def returns(self) -> RealArray:
        """Σ γ^t r_t of each session, (session,)."""
        return self.total(self.discounting * self.reward)

    @cached_property
    def last_weight(self) -> RealArray:
        """w_0:T of each session, (session,)."""
        return self.weight[self.offsets[1:] - 1]

    def total(self, values: RealArray) -> RealArray:
        """Return the sum over each session's steps, (session,)."""
        sums: RealArray = np.add.reduceat(values, self.offsets[:-1])
        return sums

    @cached_property
    def mean_weight(self) -> RealArray:
        """Mean over all sessions of w_0:t, the ended ones with their last, by t, (horizon,)."""
        lengths = np.diff(self.offsets)
        horizon = int(lengths.max(initial=0))
        living = np.bincount(self.step, self.weight, minlength=horizon)
        ended = np.bincount(lengths, self.last_weight, minlength=horizon + 1)[:horizon]
        mean: RealArray = (living + np.cumsum(ended)) / len(self)
        return mean

    def effective_by_step(self) -> RealArray:
        """Return the effective sample size of w_0:t in sessions, by t, (horizon,): where it dies, so does the
        estimate.
        """
        lengths = np.diff(self.offsets)
        horizon = len(self.mean_weight)
        squares = np.bincount(self.step, self.weight**2, minlength=horizon)
        squares += np.cumsum(np.bincount(lengths, self.last_weight**2, minlength=horizon + 1)[:horizon])
        top = (self.mean_weight * len(self)) ** 2
        return np.divide(top, squares, out=np.zeros_like(top), where=squares > 0)


def trajectory_is(sessions: Trajectories) -> Terms:
    """Trajectory-wise IS: Σ w_0:T Σ_t γ^t r_t / n. Precup, Sutton & Singh (2000)."""
    return Terms(sessions.last_weight * sessions.returns)


def weighted_trajectory_is(sessions: Trajectories) -> Terms:
    """Weighted trajectory-wise IS: Σ w_0:T Σ_t γ^t r_t / Σ w_0:T."""
    return Terms(sessions.last_weight * sessions.returns, sessions.last_weight)


def per_decision_is(sessions: Trajectories) -> Terms:
    """PDIS: Σ Σ_t γ^t w_0:t r_t / n. Precup, Sutton & Singh (2000)."""
    return Terms(sessions.total(sessions.discounting * sessions.weight * sessions.reward))


def weighted_per_decision_is(sessions: Trajectories) -> Terms:
    """Weighted PDIS: Σ Σ_t γ^t (w_0:t / mean w_0:t) r_t / n, the mean over all sessions. Thomas (2015)."""
    normalised = _normalised(sessions, sessions.weight, sessions.step)
    return Terms(sessions.total(sessions.discounting * normalised * sessions.reward))


def sequential_dr(sessions: Trajectories) -> Terms:
    """DR: Σ Σ_t γ^t [w_0:t (r_t − q̂_t) + w_0:t−1 v̂_t] / n. Jiang & Li (2016), Thomas & Brunskill (2016)."""
    q_logged, value = _modelled(sessions)
    corrected = sessions.weight * (sessions.reward - q_logged) + sessions.weight_before * value
    return Terms(sessions.total(sessions.discounting * corrected))


def weighted_sequential_dr(sessions: Trajectories) -> Terms:
    """Weighted DR: DR with every w_0:t divided by its mean over all sessions. Thomas & Brunskill (2016)."""
    q_logged, value = _modelled(sessions)
    now = _normalised(sessions, sessions.weight, sessions.step)
    before = np.where(
        sessions.step == 0,
        1.0,
        _normalised(sessions, sessions.weight_before, np.maximum(sessions.step - 1, 0)),
    )
    corrected = now * (sessions.reward - q_logged) + before * value
    return Terms(sessions.total(sessions.discounting * corrected))


def direct_start(sessions: Trajectories) -> Terms:
    """DM: Σ v̂(s_0) / n, the start value that FQE says."""
    return Terms(_modelled(sessions)[1][sessions.offsets[:-1]])


def _normalised(sessions: Trajectories, weight: RealArray, step: LongArray) -> RealArray:
    mean = sessions.mean_weight[step]
    return np.divide(weight, mean, out=np.zeros_like(weight), where=mean > 0)


def _modelled(sessions: Trajectories) -> tuple[RealArray, RealArray]:
    if sessions.q_logged is None or sessions.value is None:
        raise UserError(
            "0 Q-functions are given, this estimator needs 1; fit one (fqe.py) or choose per_decision_is"
        )
    return sessions.q_logged, sessions.value
