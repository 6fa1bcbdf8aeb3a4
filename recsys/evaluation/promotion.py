"""May the challenger become the champion? One decision from the replay, the Q-function's health, latency and size.

promoted     lower bound of (challenger − champion) > margin · |champion|, and no limit is broken
kept         it is not
cannot say   the gates of the replay failed: these logs support no answer
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from recsys.artifacts.health_gate import HealthCheck
from recsys.evaluation.replay.policies import Request, ServedPolicy
from recsys.evaluation.replay.verdict import Evaluation
from recsys.loop_config import ImproveConfig
from recsys.policies.exploration import ListDistribution
from recsys.recommender import Recommender

Outcome = Literal["promoted", "kept", "cannot say"]
Clock = Callable[[], float]  # seconds
_TIMED = 100_000  # lists whose cost is remembered


@dataclass(frozen=True)
class Measured:
    """What a bundle costs."""

    median_ms: float  # of ranking one logged request, with the building of its history
    p95_ms: float
    megabytes: float


@dataclass(frozen=True)
class Decision:
    """What becomes of a challenger, and why, in one sentence."""

    outcome: Outcome
    why: str
    failed: tuple[str, ...] = field(default=())  # limits that are broken


class TimedPolicy(ServedPolicy):
    """A bundle whose answers are timed: what the replay asks of it is what the endpoint would."""

    def __init__(self, recommender: Recommender, clock: Clock, *, exclude_seen: bool) -> None:
        super().__init__(recommender, exclude_seen=exclude_seen)
        self._clock = clock
        self._seconds: list[float] = []

    def distribution(self, request: Request) -> ListDistribution:
        """Return what the bundle answers."""
        began = self._clock()
        found = super().distribution(request)
        if len(self._seconds) < _TIMED:
            self._seconds.append(self._clock() - began)
        return found

    def measured(self, bundle_bytes: int) -> Measured:
        """Return the costs so far."""
        milliseconds = 1e3 * np.array(self._seconds or [np.nan])
        median, p95 = np.quantile(milliseconds, [0.5, 0.95]).tolist()
        return Measured(median, p95, bundle_bytes / 1e6)


def limits(
    challenger: Measured, champion: Measured, health: Sequence[HealthCheck], config: ImproveConfig
) -> list[str]:
    """Return what a challenger breaks, whatever it would earn."""
    broken = [
        f"the {check.name} of its Q-function is {check.value:.3g}, must be at most {check.bound:g}"
        for check in health
        if check.failed
    ]
    if challenger.p95_ms > config.max_p95_ms:
        broken.append(
            f"its 95th percentile is {challenger.p95_ms:.3g} ms a list, must be at most {config.max_p95_ms:g}"
        )
    ratio = challenger.median_ms / champion.median_ms if champion.median_ms > 0 else float("nan")
    if config.max_latency_ratio is not None and ratio > config.max_latency_ratio:
        broken.append(
            f"a list costs {ratio:.3g} times the champion's, must be at most {config.max_latency_ratio:g} times"
        )
    if challenger.megabytes > config.max_bundle_mb:
        broken.append(
            f"its bundle has {challenger.megabytes:.3g} MB, must have at most {config.max_bundle_mb:g}"
        )
    return broken


def decide(evaluation: Evaluation, broken: Sequence[str], config: ImproveConfig) -> Decision:
    """Return the decision about the first policy of a replay against the second."""
    row = evaluation.differences[0]
    if broken:
        return Decision(
            "kept", f"{row.against} stays: {row.policy} breaks a limit: {'; '.join(broken)}.", tuple(broken)
        )
    if evaluation.refused:
        return Decision("cannot say", f"{row.against} stays, {row.policy} is not judged: {evaluation.why}.")
    champion = row.value / row.relative if row.relative else 0.0
    needed = config.margin * abs(champion)
    sure = f"{row.value:+.4g} a {config.horizon} ({row.low:+.4g} to {row.high:+.4g})"
    if row.low > needed:
        return Decision(
            "promoted",
            f"{row.policy} takes over from {row.against}: {sure}, above the margin of {needed:.3g}.",
        )
    why = "is worse" if row.high < 0 else "is not surely better by the margin"
    return Decision("kept", f"{row.against} stays: {row.policy} {why}: {sure}, must exceed {needed:.3g}.")


def facts_of(evaluation: Evaluation) -> Mapping[str, object]:
    """Return what a journal keeps of a replay."""
    row = evaluation.differences[0]
    return {
        "decision": evaluation.decision,
        "difference": {"value": row.value, "low": row.low, "high": row.high},
        "failed_gates": [
            gate.name
            for gate in [*evaluation.self_tests, *(g for gates in evaluation.gates.values() for g in gates)]
            if gate.verdict == "fail"
        ],
    }
