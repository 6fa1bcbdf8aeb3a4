"""Offline evaluation in two lines: a log and policies in, a verdict with its report out.

report = evaluate_log(from_parquet("log"), served("registry/metaq@challenger"), served("registry/metaq@champion"))
report.save("replay")  # report.html, report.json; in a notebook the report shows its page
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recsys.artifacts.files import replace_text
from recsys.artifacts.registry import VERSIONS, Registry
from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.clustered import clustered_intervals
from recsys.evaluation.ope.estimators import WITH_MODEL, WITHOUT_MODEL
from recsys.evaluation.ope.gates import Gate, GateBounds, refused, weight_gates
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.rounds import Rounds
from recsys.evaluation.replay.comparison import ReplayOptions, replay_policies
from recsys.evaluation.replay.estimated import shares_by_position
from recsys.evaluation.replay.live_log import from_store as from_store
from recsys.evaluation.replay.log import EventSource
from recsys.evaluation.replay.log import from_parquet as from_parquet
from recsys.evaluation.replay.log import from_table as from_table
from recsys.evaluation.replay.policies import EvaluationPolicy, FollowsCatalogue
from recsys.evaluation.replay.policies import FunctionPolicy as FunctionPolicy
from recsys.evaluation.replay.policies import ServedPolicy as ServedPolicy
from recsys.evaluation.replay.selftests import (
    MakePolicies,
    coverage_gate,
    fitted_coverage,
    leak_gate,
    training_gate,
)
from recsys.evaluation.replay.verdict import Evaluation, judge
from recsys.evaluation.report.html import as_html
from recsys.evaluation.report.plain import as_json
from recsys.randomness import numpy_generator
from recsys.recommender import load_recommender

_MICRO = 1_000_000


@dataclass(frozen=True)
class Report:
    """An evaluation with its pages."""

    evaluation: Evaluation

    def _repr_html_(self) -> str:
        return as_html(self.evaluation)

    def save(self, folder: Path | str) -> Path:
        """Write report.html and report.json into a folder; return the page."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / "report.json", as_json(self.evaluation))
        replace_text(folder / "report.html", as_html(self.evaluation))
        return folder / "report.html"


def served(place: Path | str, *, exclude_seen: bool = True) -> ServedPolicy:
    """Return a bundle as it is served: from its folder, or by "REGISTRY/NAME@ALIAS" (or a version after the @).

    Reports call it by its version, a folder that is none of a registry's by its path.
    """
    registry, at, alias = str(place).rpartition("@")
    folder = Registry(Path(registry).parent).resolve(Path(registry).name, alias) if at else Path(place)
    until: datetime | None = None
    try:
        told = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["trained_until"]
        until = datetime.fromisoformat(told)
    except (OSError, ValueError, LookupError, TypeError):
        until = None  # made by hand: nobody says
    name = folder.name if folder.parent.name == VERSIONS else str(folder)
    return ServedPolicy(load_recommender(folder), name, exclude_seen=exclude_seen, trained_until=until)


def evaluate_log(
    source: EventSource,
    challenger: EvaluationPolicy,
    against: EvaluationPolicy | None = None,
    options: ReplayOptions | None = None,
    *,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    bounds: GateBounds | None = None,
    trained_until_s: float | None = None,
    estimate_propensities: bool = False,
    make: MakePolicies | None = None,
    self_test: bool = True,
    on_request: Callable[[], None] = lambda: None,
) -> Report:
    """Return the report of a challenger against a champion, or against what was logged.

    `make` builds the policies from a log, where they read one besides their requests: the leak test builds them twice.
    `trained_until_s` says when training ended, seconds (UTC); without it the challenger's bundle does.
    Raises UserError if no list can be replayed.
    """
    options = options or ReplayOptions()
    policies = _named(challenger, against)
    for policy in policies.values():
        if isinstance(policy, FollowsCatalogue):
            policy.follow(source.changes)
    replayed = replay_policies(
        source,
        policies,
        options,
        attributes,
        on_request,
        shares_by_position if estimate_propensities else None,
    )
    name = replayed.policies[0]
    if trained_until_s is None and (known := getattr(challenger, "trained_until", None)) is not None:
        trained_until_s = (known if known.tzinfo else known.replace(tzinfo=UTC)).timestamp()
    until = None if trained_until_s is None else round(trained_until_s * _MICRO)
    tests = [training_gate(until, replayed.tally)]
    if self_test:
        chance = numpy_generator(options.seed, "replay self-tests")
        covered = fitted_coverage(
            replayed.sample, name, chance, options.reward_range, options.max_weight, options.confidence
        )
        tests.append(coverage_gate(covered, options.confidence))
        tests.append(leak_gate(source, make or (lambda _: policies), options, chance, attributes))
    tally = replayed.tally
    provenance: dict[str, object] = {
        "log": source.name,
        "events": f"{tally.events:,}",
        "lists": f"{tally.requests:,} of {tally.users:,} users, up to {replayed.width} items each",
        "left out": tally.left_out or "nothing",
        "from": _moment(tally.first_time),
        "to": _moment(tally.last_time),
        "value of": f"a {options.horizon}",
        "attribution window": f"{options.window_s / 3600:g} h",
        "feedback": f"{tally.by_recommendation:,} by recommendation, {tally.by_item:,} by item, "
        f"{tally.unclaimed:,} to no impression",
        "rewards": dict(options.reward.base),
        "logged by": ", ".join(
            f"{who or 'unnamed'} ({n:,})" for who, n in list(replayed.versions.items())[:6]
        ),
        "history": f"newest {options.history_events} events",
        "largest weight": "not known" if np.isinf(options.max_weight) else f"{options.max_weight:g}",
        "seed": options.seed,
    }
    return Report(
        judge(replayed, options, bounds, tests, provenance, estimated_propensities=estimate_propensities)
    )


@dataclass(frozen=True)
class Estimates:
    """Estimates of one policy from rounds in memory."""

    likelihood: Mapping[str, Interval]  # of what weights can be constrained in
    clustered: Mapping[str, Interval]
    gates: list[Gate]

    @property
    def refused(self) -> bool:
        """Whether the log cannot say."""
        return refused(self.gates)


def estimate(
    rounds: Rounds, confidence: float = 0.95, reward_range: tuple[float, float] | None = None
) -> Estimates:
    """Return every estimate that rounds allow, both kinds of interval, and the gates."""
    estimators = dict(WITHOUT_MODEL) | (dict(WITH_MODEL) if rounds.q_logged is not None else {})
    sums = sum_rounds(rounds, estimators)
    asked = [name for name in ("logging", "snips", "ips", "dr") if name in sums.names]
    return Estimates(
        {name: likelihood_interval(sums, {name: 1.0}, confidence, reward_range) for name in asked},
        clustered_intervals(sums, confidence),
        weight_gates(sums, 0),
    )


def _named(challenger: EvaluationPolicy, against: EvaluationPolicy | None) -> dict[str, EvaluationPolicy]:
    """Return the policies by name; the same name twice is told apart."""
    first = challenger.name
    if against is None:
        return {first: challenger}
    second = against.name
    return {first: challenger, (f"{second} (against)" if second == first else second): against}


def _moment(microseconds: int) -> str:
    return str(np.datetime64(microseconds, "us")).split(".")[0] + " UTC"
