"""Replays a log through a challenger and a champion and keeps what estimates, gates, cohorts and reports need.

Two passes: the first fits the reward model and finds the period, the second asks the policies. Memory is that of one
bucket of users, the sums, and a sample of weights for pictures and self-tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.accumulate import Accumulator, hashed
from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.lists import Assumption, ListRounds, family_columns, floored_columns, list_columns
from recsys.evaluation.ope.sums import BLOCKS, LOGGING, Sums
from recsys.evaluation.replay.cells import add_some, cell_order, cells_of
from recsys.evaluation.replay.drive import (
    HISTORY_EVENTS,
    ReplayedLists,
    fit_list_model,
    replay,
)
from recsys.evaluation.replay.log import NO_PROPENSITY, OUT_OF_TIME, EventSource, RequestTable
from recsys.evaluation.replay.policies import EvaluationPolicy
from recsys.evaluation.replay.sessions import SessionSteps, chained
from recsys.evaluation.replay.tally import Tally, Vocabulary
from recsys.randomness import numpy_generator
from recsys.types import LongArray, RealArray

FLOORS: Final = {0.0001: "floor(0.0001)", 0.001: "floor(0.001)", 0.01: "floor(0.01)"}
PERIODS: Final = 6
Horizon = Literal["list", "session"]
SAMPLE: Final = 100_000  # lists kept for pictures and self-tests
_DAY_S: Final = 86_400.0
_FEW: Final = (LOGGING, "snips", "dr")  # what cohorts and stretches of time are told by


@dataclass(frozen=True)
class ReplayOptions:
    """What a replay depends on besides the log and the policies."""

    reward: RewardConfig = field(default_factory=RewardConfig)
    window_s: float = _DAY_S  # a response counts for an impression for so long
    assumption: Assumption = "cascade"
    confidence: float = 0.95
    history_events: int = HISTORY_EVENTS
    max_weight: float = np.inf
    reward_range: tuple[float, float] | None = None  # of a list's total reward
    use_model: bool = True
    horizon: Horizon = "list"  # whose reward is counted
    any_time: bool = False  # the verdict may be read again and again while the log grows
    every_estimator: bool = False  # shown; else those of a family stand behind the one that is chosen
    seed: int = 7

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1.0:
            raise UserError(f"confidence is {self.confidence}, must lie in 0.5 to below 1; give 0.95")


@dataclass(frozen=True)
class Sample:
    """Some lists, for pictures and self-tests; arrays of shape (list,)."""

    weight: Mapping[str, RealArray]
    reward: RealArray
    cluster: LongArray
    time: LongArray
    propensity: RealArray  # of the first item
    earned: Mapping[str, RealArray]  # Σ_k W_k r_k
    length: LongArray
    item_reward: tuple[float, float]  # least and most of one shown item, as seen


@dataclass(frozen=True)
class Agreement:
    """Propensities that a policy computes anew for lists that it logged itself."""

    lists: int = 0
    largest_gap: float = 0.0  # relative, of any position


@dataclass(frozen=True)
class Replayed:
    """What a replay came to."""

    policies: tuple[str, ...]  # the challenger first
    sums: Sums
    cohorts: Mapping[tuple[str, str], Sums]  # (segment, cell) in order
    periods: Mapping[int, Sums]
    shown_early: RealArray  # (item,) impressions in the first third of the period
    shown_late: RealArray  # (item,) … and in the last
    sample: Sample
    agreement: Mapping[str, Agreement]
    catalogue: int  # items that policies know, the largest
    tally: Tally
    width: int  # positions of the longest list
    versions: Mapping[str, int]  # lists by the policy_version that logged them
    has_model: bool
    sessions: Mapping[str, Mapping[str, Interval]]  # by policy; of horizon "session"


def replay_policies(
    source: EventSource,
    policies: Mapping[str, EvaluationPolicy],
    options: ReplayOptions,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    on_request: Callable[[], None] = lambda: None,
    propensities: Callable[[RequestTable], RealArray] | None = None,
) -> Replayed:
    """Replay a log; raises UserError if no list can be used."""
    if not policies:
        raise UserError("0 policies are given, at least 1 is needed; name a challenger")
    vocabulary, tally = Vocabulary(), Tally()
    model = fit_list_model(source, options.reward, options.window_s, vocabulary)
    span = _span(vocabulary)
    kept = _Kept(policies, options, span, len(vocabulary), vocabulary.width)
    for lists in replay(
        source,
        policies,
        options.reward,
        options.window_s,
        vocabulary,
        model if options.use_model else None,
        tally,
        attributes,
        options.history_events,
        options.max_weight,
        on_request,
        propensities,
    ):
        kept.compare_own(lists)
        if options.horizon == "session" and len(lists):
            lists, state = chained(lists)
            kept.steps.add(lists, state)
        kept.add(lists)
    if not tally.requests:
        raise UserError(
            f"0 lists of {source.name} can be replayed ({tally.left_out or 'no impressions at all'}); {_remedy(tally)}"
        )
    return kept.done(tally)


class _Kept:
    """Adds up chunks."""

    def __init__(
        self,
        policies: Mapping[str, EvaluationPolicy],
        options: ReplayOptions,
        span: tuple[int, int],
        items: int,
        width: int,
    ) -> None:
        self._policies, self._options, self._span = policies, options, span
        self._all = Accumulator()
        self._cells: dict[tuple[str, str], Accumulator] = {}
        self._periods: dict[int, Accumulator] = {}
        self._early, self._late = np.zeros(items), np.zeros(items)
        self._samples: list[Sample] = []
        self._agreement = {name: Agreement() for name in policies}
        self._many = width > 1 or options.horizon == "session"
        self._width = 1
        self.steps = SessionSteps()
        self._versions: dict[str, int] = {}
        self._sampled = 0

    def add(self, lists: ReplayedLists) -> None:
        rounds = {name: ListRounds(slates, self._options.assumption) for name, slates in lists.slates.items()}
        columns = columns_of(rounds, many=self._many)
        few = {name: terms for name, terms in columns.items() if name.split("/")[-1] in _FEW}
        first = next(iter(rounds.values()))
        assert first.cluster is not None  # noqa: S101 - drive gives users
        block = hashed(first.cluster, BLOCKS)
        self._all.add(rounds, columns, block)
        self._width = max(self._width, first.slates.reward.shape[1])
        period = np.clip(
            (lists.time - self._span[0]) * PERIODS // max(self._span[1] - self._span[0], 1), 0, PERIODS - 1
        )
        for number in np.unique(period).tolist():
            add_some(self._periods.setdefault(number, Accumulator()), rounds, few, block, period == number)
        for segment, (cell, names) in cells_of(lists).items():
            for number in np.unique(cell[cell >= 0]).tolist():
                into = self._cells.setdefault((segment, names[number]), Accumulator())
                add_some(into, rounds, few, block, cell == number)
        third = (lists.time - self._span[0]) / max(self._span[1] - self._span[0], 1)
        for count, rows in ((self._early, third < 1 / 3), (self._late, third >= 2 / 3)):
            shown = lists.item[rows]
            count += np.bincount(shown[shown >= 0], minlength=len(count))
        for version in lists.versions:
            self._versions[version] = self._versions.get(version, 0) + 1
        self._keep_some(lists, rounds, columns)

    def compare_own(self, lists: ReplayedLists) -> None:
        """Hold what policies would draw now against what they drew for lists of their own."""
        for name, policy in self._policies.items():
            version = getattr(policy, "version", None)
            own = np.array([bool(version) and text.split(" ")[0] == version for text in lists.versions])
            if not own.any():
                continue
            slates = lists.slates[name]
            ratio = np.where(slates.shown, lists.recomputed[name] / slates.propensity, 1.0)
            gap = np.abs(ratio[own] - 1.0).max(initial=0.0)
            old = self._agreement[name]
            self._agreement[name] = Agreement(old.lists + int(own.sum()), max(old.largest_gap, float(gap)))

    def _keep_some(
        self, lists: ReplayedLists, rounds: Mapping[str, ListRounds], columns: Mapping[str, Terms]
    ) -> None:
        if self._sampled >= SAMPLE:
            return
        part = slice(0, SAMPLE - self._sampled)
        first = next(iter(rounds.values()))
        assert first.cluster is not None  # noqa: S101
        weight = {name: each.weight[part] for name, each in rounds.items()}
        shown = first.slates.reward[part][first.slates.shown[part]]
        self._samples.append(
            Sample(
                weight,
                first.reward[part],
                first.cluster[part],
                lists.time[part],
                first.slates.propensity[part, 0],
                {
                    name: columns[f"{name}/ips" if len(rounds) > 1 else "ips"].numerator[part]
                    for name in rounds
                },
                first.slates.length[part],
                (float(shown.min(initial=0.0)), float(shown.max(initial=0.0))),
            )
        )
        self._sampled += len(self._samples[-1].reward)

    def done(self, tally: Tally) -> Replayed:
        names = tuple(self._policies)
        sample = Sample(
            {name: np.concatenate([part.weight[name] for part in self._samples]) for name in names},
            np.concatenate([part.reward for part in self._samples]),
            np.concatenate([part.cluster for part in self._samples]),
            np.concatenate([part.time for part in self._samples]),
            np.concatenate([part.propensity for part in self._samples]),
            {name: np.concatenate([part.earned[name] for part in self._samples]) for name in names},
            np.concatenate([part.length for part in self._samples]),
            (
                min(part.item_reward[0] for part in self._samples),
                max(part.item_reward[1] for part in self._samples),
            ),
        )
        chance = numpy_generator(self._options.seed, "sessions")
        return Replayed(
            names,
            self._all.sums(),
            {key: self._cells[key].sums() for key in sorted(self._cells, key=cell_order)},
            {number: self._periods[number].sums() for number in sorted(self._periods)},
            self._early,
            self._late,
            sample,
            self._agreement,
            max(len(policy.item_ids) for policy in self._policies.values()),
            tally,
            self._width,
            dict(sorted(self._versions.items(), key=lambda pair: -pair[1])),
            self._options.use_model and self._options.assumption != "whole",
            {name: self.steps.estimates(name, self._options.confidence, chance) for name in names},
        )


def columns_of(rounds: Mapping[str, ListRounds], *, many: bool) -> dict[str, Terms]:
    """Return every column of every policy, named "policy/estimator", and what the log earned."""
    columns = {LOGGING: Terms(next(iter(rounds.values())).reward)}
    for policy, lists in rounds.items():
        prefix = f"{policy}/" if len(rounds) > 1 else ""
        terms = {**family_columns(lists), **list_columns(lists, many=many), **floored_columns(lists, FLOORS)}
        columns |= {f"{prefix}{name}": each for name, each in terms.items()}
    return columns


def _remedy(tally: Tally) -> str:
    """Return what makes lists of a log fit to be replayed, by what was wrong with them."""
    if set(tally.dropped) == {OUT_OF_TIME}:
        return "begin at an earlier moment"
    estimate = ", or --set estimate_propensities=true" if tally.dropped[NO_PROPENSITY] else ""
    return f"impressions need recommendation_id, position and propensity{estimate}"


def _span(vocabulary: Vocabulary) -> tuple[int, int]:
    times = vocabulary.span
    return times if times[0] <= times[1] else (0, 1)
