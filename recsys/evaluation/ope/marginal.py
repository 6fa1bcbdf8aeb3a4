"""Marginalised importance sampling: ratios of how often states are visited, in place of products of step ratios.

    ρ_t(s) = d^π_t(s) / d^μ_t(s),   d̂^π_t+1(s') = (1/n) Σ_i ρ_t(s_t) w_t 1{s_t+1 = s'},   θ = (1/n) Σ_i Σ_t γ^t
    ρ_t(s_t) w_t r_t

with w_t = π(a_t | s_t) / μ(a_t | s_t) of the same step t as the reward: its variance does not grow with the product
over a session. Xie, Ma & Wang (2019). States are few (an aggregation); what it leaves out is a bias.
"""

from dataclasses import dataclass

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.trajectories import Trajectories
from recsys.types import LongArray, RealArray


@dataclass(frozen=True)
class _Steps:
    """Steps ordered by t, so that one slice is one t."""

    order: LongArray  # (step,)
    starts: LongArray  # (horizon + 1,)


def state_ratios(sessions: Trajectories, state: LongArray, counts: RealArray | None = None) -> RealArray:
    """Return ρ_t(s_t) of each step, (step,); `counts` says how often each session counts, (session,), as in a resample.

    The first ratio is 1: sessions of both policies begin alike.
    """
    if len(state) != len(sessions.reward):
        raise UserError(
            f"{len(state):,} states for {len(sessions.reward):,} steps, must be as many; give one for each step"
        )
    if len(state) and state.min() < 0:
        raise UserError(f"the least state is {state.min()}, must be at least 0; number states from 0")
    weight: RealArray = np.ones(len(sessions)) if counts is None else counts
    ratio = sessions.chosen / sessions.propensity
    steps = _by_time(sessions)
    number = int(state.max(initial=0)) + 1
    visits: RealArray = np.zeros(number)
    rho = np.ones(len(state))
    for t in range(len(steps.starts) - 1):  # over time steps
        rows = steps.order[steps.starts[t] : steps.starts[t + 1]]
        here, times = state[rows], weight[sessions.session[rows]]
        if t:
            logged = np.bincount(here, times, minlength=number)
            rho[rows] = np.divide(visits, logged, out=np.zeros(number), where=logged > 0)[here]
        flow = rho[rows] * ratio[rows] * times
        goes_on = rows + 1 < sessions.offsets[sessions.session[rows] + 1]
        following = state[rows[goes_on] + 1]
        visits = np.bincount(following, flow[goes_on], minlength=number).astype(np.float64)
    return rho


def marginalised_is(sessions: Trajectories, state: LongArray) -> Terms:
    """Return MIS per session; its interval must resample sessions, since ρ is estimated from all of them."""
    rho = state_ratios(sessions, state)
    ratio = sessions.chosen / sessions.propensity
    return Terms(sessions.total(sessions.discounting * rho * ratio * sessions.reward))


def marginalised_dr(sessions: Trajectories, state: LongArray) -> Terms:
    """Return Σ_i { v̂(s_0) + Σ_t γ^t ρ_t w_t (r_t + γ v̂_t+1 − q̂_t) } / n. Kallus & Uehara (2020)."""
    if sessions.q_logged is None or sessions.value is None:
        raise UserError(
            "0 Q-functions are given, marginalised DR needs 1; fit one (fqe.py) or use marginalised_is"
        )
    rho = state_ratios(sessions, state)
    ratio = sessions.chosen / sessions.propensity
    following = np.append(sessions.value[1:], 0.0)
    following[sessions.offsets[1:] - 1] = 0.0  # sessions end there
    error = sessions.reward + sessions.discount * following - sessions.q_logged
    total = sessions.total(sessions.discounting * rho * ratio * error)
    return Terms(total, base=sessions.value[sessions.offsets[:-1]])


def marginalised_interval(
    sessions: Trajectories,
    state: LongArray,
    resamples: int,
    generator: np.random.Generator,
    confidence: float = 0.95,
) -> Interval:
    """Return MIS with the percentile interval over resampled sessions, ratios fitted anew in each."""
    ratio = sessions.chosen / sessions.propensity
    gained = sessions.discounting * ratio * sessions.reward
    value = float(marginalised_is(sessions, state).numerator.mean())
    drawn: RealArray = np.empty(resamples)
    for place in range(resamples):
        counts = generator.poisson(1.0, len(sessions)).astype(np.float64)
        rho = state_ratios(sessions, state, counts)
        drawn[place] = counts @ sessions.total(gained * rho) / max(counts.sum(), 1.0)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))


def _by_time(sessions: Trajectories) -> _Steps:
    order = np.argsort(sessions.step, kind="stable")
    horizon = int(sessions.step.max(initial=-1)) + 1
    return _Steps(order, np.searchsorted(sessions.step[order], np.arange(horizon + 1)))
