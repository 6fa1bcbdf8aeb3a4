"""Tests that a log and its replay must pass before their numbers count: on the user's own log."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.evaluation.ope.gates import Gate
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.sums import LOGGING, Sums, WeightSummary
from recsys.evaluation.replay.comparison import Agreement, Replayed, ReplayOptions, Sample
from recsys.evaluation.replay.drive import replay
from recsys.evaluation.replay.log import NEEDED, EventSource, from_table
from recsys.evaluation.replay.policies import EvaluationPolicy, FollowsCatalogue
from recsys.evaluation.replay.tally import Tally, Vocabulary
from recsys.mdp.reward import rewarded_types
from recsys.types import BoolArray, RealArray

_SAME = 1e-3  # relative; propensities are logged in single precision
_NEAR = 0.05  # below it a warning
_APART = f"≤ {_SAME:g} apart, fails above {_NEAR:g}"
_LEAST_COVERAGE = 0.9  # of a nominal 95 %, on a simulation that has the log's own tails and no heavier ones
MakePolicies = Callable[[EventSource], Mapping[str, EvaluationPolicy]]


def same_policy_gate(policy: str, agreement: Agreement) -> Gate:
    """Return the A/A test of a policy that made part of the log: its propensities, computed anew, are those logged."""
    if not agreement.lists:
        return Gate(
            "A/A: propensities recomputed",
            "warn",
            None,
            _APART,
            f"no list of the log was made by {policy}, so its recorded propensities cannot be computed anew",
        )
    gap = agreement.largest_gap
    return Gate(
        "A/A: propensities recomputed",
        "pass" if gap <= _SAME else "warn" if gap <= _NEAR else "fail",
        gap,
        _APART,
        f"{policy} made {agreement.lists:,} lists of the log; replayed, its propensities differ from those recorded by "
        f"up to {gap:.2g} of their size"
        + (f", must be at most {_NEAR:g}: what is replayed is not what was served" if gap > _NEAR else ""),
    )


def reward_gate(sums: Sums, reward: RewardConfig) -> Gate:
    """Return whether any list earned anything: where none did, no policy can earn more than another."""
    low, high = sums.reward_range
    worth = [
        name for name in rewarded_types(reward) if reward.base.get(name) or reward.per_log_value.get(name)
    ]
    return Gate(
        "rewards",
        "fail" if low == high == 0.0 else "pass",
        high,
        "not all 0",
        f"lists earned {low:.3g} to {high:.3g}"
        if low or high
        else f"all {sums.rounds:,} lists earned 0, at least 1 must earn something; what is worth something is "
        f"{', '.join(worth) or 'nothing'}: give another reward or a longer window",
    )


def own_mean_gate(sums: Sums, replayed_reward: float) -> Gate:
    """Return the A/A test of the arithmetic: the logging policy on its own log, weights of 1, earns its own mean."""
    value = float(sums.estimates()[sums.column(LOGGING)])
    gap = abs(value - replayed_reward) / max(abs(replayed_reward), 1e-12)
    return Gate(
        "A/A: the log's own mean",
        "pass" if gap < 1e-9 else "fail",
        gap,
        "< 1e-9 apart",
        f"the logging policy on its own log is worth {value:.6g}, its lists earned {replayed_reward:.6g} on average",
    )


@dataclass(frozen=True)
class FittedCoverage:
    """How often the interval held the truth on logs drawn from a model of this one."""

    covered: int
    logs: int
    truth: float
    mean_width: float

    @property
    def share(self) -> float:
        """Covered logs among all."""
        return self.covered / max(self.logs, 1)


def fitted_coverage(
    sample: Sample,
    policy: str,
    generator: np.random.Generator,
    reward_range: tuple[float, float] | None = None,
    max_weight: float = np.inf,
    confidence: float = 0.95,
    logs: int = 400,
) -> FittedCoverage | None:
    """Return the coverage of the likelihood interval on resamples of this log's users, tilted so that E[w] = 1.

    User u is drawn with probability q_u ∝ exp(λ Σ (w − 1)), λ such that weights have mean 1: a population whose value
    Σ q w r / Σ q is known. None if no tilt does it. It has no weight that the log lacks: heavier tails go unseen.
    """
    users, place = np.unique(sample.cluster, return_inverse=True)
    weight = sample.weight[policy]
    count = np.bincount(place, minlength=len(users)).astype(np.float64)
    control = np.bincount(place, weight, minlength=len(users)) - count
    earned = np.bincount(place, weight * sample.reward, minlength=len(users)).astype(np.float64)
    chance = _tilted(control)
    if chance is None:
        return None
    truth = float(chance @ earned / (chance @ count))
    rewards = reward_range or (float(sample.reward.min()), float(sample.reward.max()))
    covered, width = 0, 0.0
    for _ in range(logs):
        drawn = generator.choice(len(users), len(users), p=chance)
        sums = _sums_of(count[drawn], control[drawn], earned[drawn], rewards, max_weight)
        got = likelihood_interval(sums, {"snips": 1.0}, confidence, rewards)
        covered += got.low <= truth <= got.high
        width += got.high - got.low
    return FittedCoverage(covered, logs, truth, width / logs)


def coverage_gate(found: FittedCoverage | None, confidence: float) -> Gate:
    """Return whether the interval covers on a simulation fitted to the log."""
    name, bound = "coverage on this log", f"≥ {_LEAST_COVERAGE:.0%} of a nominal {confidence:.0%}"
    if found is None:
        said = "no reweighting of this log gives weights a mean of 1: nothing to simulate"
        return Gate(name, "fail", None, bound, said)
    return Gate(
        name,
        "pass" if found.share >= _LEAST_COVERAGE else "fail",
        found.share,
        bound,
        f"on {found.logs} logs drawn from a model of this one the interval held the truth {found.share:.1%} of "
        f"the time (mean width {found.mean_width:.3g})"
        + (
            f", must be at least {_LEAST_COVERAGE:.0%}: wait for more lists"
            if found.share < _LEAST_COVERAGE
            else ""
        ),
    )


def leak_gate(
    source: EventSource,
    make: MakePolicies,
    options: ReplayOptions,
    generator: np.random.Generator,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    requests: int = 300,
) -> Gate:
    """Return the shuffle-the-future test: answers before a moment must not change when what follows it does.

    Policies are made from the log, then made again from a log in which all feedback that comes after its user's middle
    request is shuffled among users. The requests up to then must get the same answers.
    """
    frame = _some_users(source, requests)
    shown = (frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()
    middle = (
        frame["who"].map(frame[shown].groupby("who")["time"].quantile(0.5, interpolation="lower")).to_numpy()
    )
    time = frame["time"].to_numpy()
    future = (time > middle) & ~shown
    early = set(frame[c.RECOMMENDATION_ID].to_numpy(object)[shown & (time <= middle)])
    shuffled = frame.copy()
    order = generator.permutation(np.flatnonzero(future))
    for name in (c.ITEM_ID, c.EVENT_TYPE, c.VALUE):
        values = shuffled[name].to_numpy(object).copy()
        values[future] = values[order]
        shuffled[name] = values
    before = _answers(_as_source(frame, source), make, options, attributes, early)
    after = _answers(_as_source(shuffled, source), make, options, attributes, early)
    worst = max((float(np.abs(before[name] - after[name]).max(initial=0.0)) for name in before), default=0.0)
    asked = len(next(iter(before.values()))) if before else 0
    return Gate(
        "leak: the future shuffled",
        "pass" if worst == 0.0 else "fail",
        worst,
        "no answer may change",
        f"{int(future.sum()):,} later events were shuffled; of {asked:,} earlier answers "
        + (
            "none changed"
            if worst == 0.0
            else f"some changed, by up to {worst:.2g}: a feature knows the future"
        ),
    )


def training_gate(trained_until_us: int | None, tally: Tally) -> Gate:
    """Return whether the log begins after training ended: a metric on what was trained on is none."""
    name, bound = "after training", "log begins after training ended"
    if trained_until_us is None:
        return Gate(name, "warn", None, bound, "unknown: the bundle does not say until when it was trained")
    first, ended = _moment(tally.first_time), _moment(trained_until_us)
    early = tally.first_time < trained_until_us
    remedy = (
        f"ask for the lists since then alone, --since {ended}"
        if tally.last_time >= trained_until_us
        else "no list is later: wait for traffic that is"
    )
    return Gate(
        name,
        "fail" if early else "pass",
        (tally.first_time - trained_until_us) / 86_400e6,
        bound,
        f"the first list is of {first}, training ended at {ended}"
        + (f": the log holds what the policy was trained on; {remedy}" if early else ""),
    )


def _moment(microseconds: int) -> str:
    return f"{np.datetime64(microseconds, 'us')}Z"


def own_mean(replayed: Replayed) -> float:
    """Return the mean reward of the replayed lists, from their sums of rewards alone."""
    sums = replayed.sums
    return float(sums.numerator[:, sums.column(LOGGING)].sum() / sums.count.sum())


def _tilted(control: RealArray) -> RealArray | None:
    """Return probabilities ∝ exp(λ control) under which the control has mean 0; None if none does."""
    if control.min(initial=0.0) >= 0.0 or control.max(initial=0.0) <= 0.0:
        even = np.full(len(control), 1.0 / max(len(control), 1))
        return even if not control.any() else None
    scale = float(np.abs(control).max())
    low, high = -700.0 / scale, 700.0 / scale

    def chances(tilt: float) -> RealArray:
        raw = np.exp(tilt * control - (tilt * control).max())
        shares: RealArray = raw / raw.sum()
        return shares

    for _ in range(200):  # the mean rises with the tilt
        middle = (low + high) / 2.0
        if float(chances(middle) @ control) < 0.0:
            low = middle
        else:
            high = middle
    found = chances((low + high) / 2.0)
    return found if abs(float(found @ control)) < 1e-6 * scale else None


def _sums_of(
    count: RealArray, control: RealArray, earned: RealArray, rewards: tuple[float, float], max_weight: float
) -> Sums:
    """Return sums of users with one column, SNIPS."""
    total = control + count
    summary = WeightSummary(int(count.sum()), float(total.sum()), float(total @ total), float(total.max()))
    return Sums(
        ("snips",),
        np.arange(len(count)),
        count,
        np.zeros((len(count), 1)),
        earned[:, None],
        total[:, None],
        control[:, None],
        rewards,
        (summary,),
        (rewards,),
        ("policy",),
        ("weight",),
        (max_weight,),
        1.0,
    )


def _some_users(source: EventSource, requests: int) -> pd.DataFrame:
    """Return the events of the first users who together have enough requests."""
    frame = next(iter(source))
    shown = (frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()
    enough = np.flatnonzero(np.cumsum(shown) >= requests * 3)
    if not len(enough):
        return frame
    last = frame["who"].iloc[int(enough[0])]
    kept: BoolArray = (frame["who"] <= last).to_numpy()
    return frame[kept].reset_index(drop=True)


def _as_source(frame: pd.DataFrame, like: EventSource) -> EventSource:
    table = pa.Table.from_pandas(frame[list(NEEDED)], preserve_index=False)
    return from_table(table, like.name, like.changes)


def _answers(
    source: EventSource,
    make: MakePolicies,
    options: ReplayOptions,
    attributes: Mapping[str, Mapping[str, str]] | None,
    asked: Collection[object],
) -> dict[str, RealArray]:
    """Return the probabilities that policies gave to what was shown up to a moment, (request · position,) each."""
    policies = make(source)
    for policy in policies.values():
        if isinstance(policy, FollowsCatalogue):
            policy.follow(source.changes)
    out: dict[str, list[RealArray]] = {}
    for lists in replay(
        source,
        policies,
        options.reward,
        options.window_s,
        Vocabulary(),
        None,
        Tally(),
        attributes,
        options.history_events,
    ):
        early = np.array([name in asked for name in lists.recommendation], bool)
        for name, slates in lists.slates.items():
            out.setdefault(name, []).append(slates.chosen[early].ravel())
    return {name: np.concatenate(parts) for name, parts in out.items()}
