"""From sums to a verdict: is the challenger better than the champion, how sure is that, and may these logs say so?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.clustered import clustered_interval, clustered_intervals
from recsys.evaluation.ope.gates import (
    Gate,
    GateBounds,
    agreement_gate,
    calibration_gate,
    drift_gate,
    floor_gate,
    weight_gates,
)
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.lists import ASSUMPTIONS, CLIP, SHRINKAGE, Assumption, families
from recsys.evaluation.ope.sums import LOGGING, Sums
from recsys.evaluation.ope.thresholds import CLIPPING, least_error, slope
from recsys.evaluation.replay.comparison import FLOORS, Horizon, Replayed, ReplayOptions
from recsys.evaluation.replay.selftests import own_mean, own_mean_gate, reward_gate, same_policy_gate
from recsys.evaluation.replay.tables import CohortRow, PeriodRow, cohort_rows, column, histogram, period_rows
from recsys.evaluation.replay.watch import WatchRow, watch_rows

Decision = Literal["better", "worse", "no difference seen", "cannot say"]
_TOLD = 3  # gates that a sentence names
_SAID: Mapping[Horizon, Mapping[Assumption, str]] = {
    "list": {
        "whole": "a reward may hang on the whole list",
        "cascade": "a reward hangs on its item and those above it",
        "independent": "a reward hangs on its own item and position alone",
    },
    "session": {
        "whole": "a reward may hang on all that the session shows",
        "cascade": "a reward hangs on its item and all that the session showed before it",
        "independent": "a reward hangs on its own item and position alone",
    },
}


@dataclass(frozen=True)
class EstimateRow:
    """One estimator of one policy."""

    policy: str
    estimator: str
    value: float
    low: float
    high: float
    interval: str  # how it was made


@dataclass(frozen=True)
class DifferenceRow:
    """What one policy earns more than another, on the same lists."""

    policy: str
    against: str
    value: float
    low: float
    high: float
    relative: float  # of what the other earns; NaN where that is 0

    @property
    def share(self) -> str:
        """The relative difference as people read it; nothing where the other earns 0."""
        return f"{self.relative:+.1%}" if np.isfinite(self.relative) else ""


@dataclass(frozen=True)
class Evaluation:
    """All that a report shows."""

    decision: Decision
    sentence: str
    policy: str
    against: str
    headline: str  # the estimator that decides
    estimates: Sequence[EstimateRow]
    differences: Sequence[DifferenceRow]
    gates: Mapping[str, Sequence[Gate]]  # by policy
    self_tests: Sequence[Gate]
    cohorts: Sequence[CohortRow]
    periods: Sequence[PeriodRow]
    assumption: str
    provenance: Mapping[str, object]
    weights: Mapping[str, tuple[Sequence[float], Sequence[int]]]  # edges and counts of the weights, by policy
    watched: Sequence[WatchRow]  # the first difference with bounds that hold at every moment at once

    @property
    def why(self) -> str:
        """The gates that failed, as one reason; nothing where none did."""
        return _reason(
            [gate for gates in self.gates.values() for gate in gates if gate.verdict == "fail"]
            + [gate for gate in self.self_tests if gate.verdict == "fail"]
        )

    @property
    def refused(self) -> bool:
        """Whether the logs cannot say."""
        return self.decision == "cannot say"

    def may_be_told(self, row: DifferenceRow) -> bool:
        """Return whether people are shown a difference: not where the gates of the log or of either side failed."""
        asked = [*self.self_tests, *self.gates.get(row.policy, ()), *self.gates.get(row.against, ())]
        return all(gate.verdict != "fail" for gate in asked)


def judge(
    replayed: Replayed,
    options: ReplayOptions,
    bounds: GateBounds | None = None,
    self_tests: Sequence[Gate] = (),
    provenance: Mapping[str, object] | None = None,
    *,
    estimated_propensities: bool = False,
    least_cell: float = 100.0,
) -> Evaluation:
    """Return the verdict and the tables behind it. The first policy is the challenger."""
    sums, challenger = replayed.sums, replayed.policies[0]
    champion = replayed.policies[1] if len(replayed.policies) > 1 else None
    headline = "dr" if replayed.has_model else "snips"
    tests = [
        reward_gate(sums, options.reward),
        own_mean_gate(sums, own_mean(replayed)),
        *[same_policy_gate(name, replayed.agreement[name]) for name in replayed.policies],
        *self_tests,
    ]
    gates = {
        name: _gates(replayed, place, headline, options, bounds, estimated_propensities)
        for place, name in enumerate(replayed.policies)
    }
    pairs = [(challenger, LOGGING)]
    if champion is not None:
        pairs = [(challenger, champion), *pairs, (champion, LOGGING)]
    differences = [_difference(replayed, a, b, headline, options) for a, b in pairs]
    watched = watch_rows(replayed, options, *pairs[0])
    if options.any_time:
        differences[0] = _at_any_time(differences[0], watched[-1])
    blocking = [
        gate
        for gate in [*gates[challenger], *(gates[champion] if champion else []), *tests]
        if gate.verdict == "fail"
    ]
    decision, sentence = _verdict(
        challenger,
        differences[0],
        blocking,
        options,
        replayed.width,
        "IPS, at any time" if options.any_time else headline.upper(),
        estimated_propensities,
    )
    return Evaluation(
        decision,
        sentence,
        challenger,
        differences[0].against,
        headline,
        _estimates(replayed, options, headline),
        differences,
        gates,
        tests,
        cohort_rows(replayed, challenger, champion, headline, options, least_cell),
        period_rows(replayed, challenger, headline, options),
        "lists of one item" if replayed.width == 1 else _SAID[options.horizon][options.assumption],
        dict(provenance or {}),
        {name: histogram(weight) for name, weight in replayed.sample.weight.items()},
        watched,
    )


def _verdict(
    challenger: str,
    row: DifferenceRow,
    blocking: Sequence[Gate],
    options: ReplayOptions,
    width: int,
    headline: str,
    estimated: bool,
) -> tuple[Decision, str]:
    """Return the decision and the one sentence."""
    against = "what was logged" if row.against == LOGGING else row.against
    if blocking:
        return (
            "cannot say",
            f"These logs cannot say whether {challenger} is better than {against}: {_reason(blocking)}.",
        )
    sure = f"{options.confidence:.0%} interval {row.low:+.4g} to {row.high:+.4g}"
    assumed = "" if width == 1 else f", if {_SAID[options.horizon][options.assumption]}"
    warned = ", on propensities that were estimated" if estimated else ""
    share = f"{row.share}; " if row.share else ""
    how = f"{row.value:+.4g} a {options.horizon} ({share}{sure}; {headline}{assumed}{warned})"
    if row.low > 0:
        return "better", f"{challenger} is better than {against}: {how}."
    if row.high < 0:
        return "worse", f"{challenger} is worse than {against}: {how}."
    return "no difference seen", f"No difference between {challenger} and {against} is seen: {how}."


def _reason(failed: Sequence[Gate]) -> str:
    return "; ".join(dict.fromkeys(f"{gate.name}: {gate.says}" for gate in failed[:_TOLD]))


def _gates(
    replayed: Replayed,
    place: int,
    headline: str,
    options: ReplayOptions,
    bounds: GateBounds | None,
    estimated: bool,
) -> list[Gate]:
    sums, policy = replayed.sums, replayed.policies[place]
    agree = ["snips", headline, f"dros({SHRINKAGE[-1]:g})"] if replayed.has_model else ["ips", "snips"]
    floors = {floor: column(replayed, policy, name) for floor, name in FLOORS.items()}
    first = replayed.sample.propensity
    source = Gate(
        "propensities",
        "warn" if estimated else "pass",
        None,
        "logged",
        "estimated from the log: whatever else the logging policy knew is a bias that no interval shows"
        if estimated
        else "logged by the policy that made the lists",
    )
    return [
        *weight_gates(sums, place, bounds),
        source,
        calibration_gate(first, np.full(len(first), float(replayed.catalogue)), bounds=bounds),
        drift_gate(replayed.shown_early, replayed.shown_late, bounds=bounds),
        floor_gate(sums, column(replayed, policy, "snips"), floors, options.confidence, bounds),
        agreement_gate(sums, [column(replayed, policy, name) for name in dict.fromkeys(agree)]),
    ]


def _estimates(replayed: Replayed, options: ReplayOptions, headline: str) -> list[EstimateRow]:
    """Return every estimator of every policy; the one that decides, SNIPS and the log have likelihood intervals."""
    sums = replayed.sums
    large = clustered_intervals(sums, options.confidence)
    hidden = set(FLOORS.values())
    if not options.every_estimator:
        hidden |= {f"clipped({value:g})" for value in CLIPPING if value != CLIP}
        hidden |= {f"switch({value:g})" for value in CLIPPING} | {f"ips, {name}" for name in ASSUMPTIONS}
    rows = []
    for place, name in enumerate(sums.names):
        policy = LOGGING if name == LOGGING else replayed.policies[sums.policy_of(place) or 0]
        estimator = "mean reward" if name == LOGGING else name.split("/")[-1]
        if estimator in hidden:
            continue
        if estimator in (headline, "snips", "ips", "mean reward"):
            got, how = _likelihood(sums, {name: 1.0}, options), "likelihood"
        else:
            got, how = large[name], "clustered"
        rows.append(EstimateRow(policy, estimator, got.mean, got.low, got.high, how))
    for policy in replayed.policies:
        rows += _chosen(replayed, policy, options, large)
        for name, got in replayed.sessions[policy].items():
            rows.append(EstimateRow(policy, name, got.mean, got.low, got.high, "bootstrap"))
    order = {policy: place for place, policy in enumerate((LOGGING, *replayed.policies))}
    return sorted(rows, key=lambda row: order[row.policy])


def _chosen(
    replayed: Replayed, policy: str, options: ReplayOptions, large: Mapping[str, Interval]
) -> list[EstimateRow]:
    """Return of each family what SLOPE and the least estimated squared error choose, with the setting's interval."""
    prefix = column(replayed, policy, "")
    own = [each.removeprefix(prefix) for each in replayed.sums.names if each.startswith(prefix)]
    own = [name for name in own if "/" not in name]  # that of a policy whose name begins like this one's
    rows = []
    for family, names in families(own).items():
        places = [prefix + name for name in names]
        for how, found in (
            ("SLOPE", slope(replayed.sums, places, options.confidence)),
            ("least error", least_error(replayed.sums, places, places[0])),
        ):
            got = large[found.name]
            name = f"{family} by {how}: {found.name.removeprefix(prefix)}"
            rows.append(EstimateRow(policy, name, got.mean, got.low, got.high, "clustered, setting chosen"))
    return rows


def _likelihood(sums: Sums, columns: Mapping[str, float], options: ReplayOptions) -> Interval:
    return likelihood_interval(sums, columns, options.confidence, options.reward_range)


def _difference(
    replayed: Replayed, policy: str, against: str, headline: str, options: ReplayOptions
) -> DifferenceRow:
    """Return a paired difference: the wider of the likelihood interval and the large-sample one."""
    columns = {column(replayed, policy, headline): 1.0, column(replayed, against, headline): -1.0}
    exact = _likelihood(replayed.sums, columns, options)
    large = clustered_interval(replayed.sums, columns, options.confidence)
    values = replayed.sums.estimates()
    other = float(values[replayed.sums.column(column(replayed, against, headline))])
    return DifferenceRow(
        policy,
        against,
        exact.mean,
        min(exact.low, large.low),
        max(exact.high, large.high),
        exact.mean / other if other else float("nan"),
    )


def _at_any_time(row: DifferenceRow, last: WatchRow) -> DifferenceRow:
    """Return a difference by IPS with bounds that hold whenever they are read."""
    other = row.value / row.relative if row.relative else float("nan")
    return replace(row, value=last.value, low=last.low, high=last.high, relative=last.value / other)


def may_pass(evaluation: Evaluation, require: Literal["better", "not-worse"], margin: float = 0.0) -> bool:
    """Say whether the challenger may be promoted: better, or not worse by more than a share of the other's value."""
    if evaluation.refused:
        return False
    row = evaluation.differences[0]
    if require == "better":
        return row.low > 0.0
    other = row.value / row.relative if row.relative else 0.0
    return row.low > -abs(margin * other) or row.low > 0.0
