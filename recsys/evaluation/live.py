"""An estimate that follows a live log: what models would have earned on lists that were served a moment ago.

Lists come with the events that they were drawn from, so nothing is read twice: a policy is asked once what it would
have drawn, and responses are counted anew whenever they have come in. The estimator is SNIPS; gates are those of replay
evaluation, but for those that need a second pass over the log (docs/replay_evaluation.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.accumulate import Accumulator, hashed
from recsys.evaluation.ope.clustered import clustered_interval
from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.gates import Gate, weight_gates
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.lists import Assumption, ListRounds
from recsys.evaluation.ope.slates import Slates
from recsys.evaluation.ope.sums import BLOCKS, LOGGING, Sums
from recsys.types import LongArray, RealArray

Decision = Literal["better", "worse", "no difference seen", "cannot say"]
ASSUMPTION: Final[Assumption] = "independent"
SAID: Final = "if a reward hangs on its own item and position alone"
SAME: Final = 1e-3  # as far as propensities computed anew may be from those logged, relative
FEWEST: Final = 100  # lists; fewer say nothing of their own spread
FEWEST_RESPONSES: Final = 10  # lists with a reward


@dataclass(frozen=True)
class LiveLists:
    """Served lists with what each policy would have done; first axis list, second position."""

    reward: RealArray  # 0 beyond a list's length
    propensity: RealArray  # 1 beyond
    chosen: Mapping[
        str, RealArray
    ]  # by policy, the probability of each shown item given those above; 1 beyond
    length: LongArray  # (list,)
    user: LongArray  # (list,)
    made_by: Sequence[str]  # version that drew each list


@dataclass(frozen=True)
class LiveEstimate:
    """What these lists say."""

    logged: Interval
    values: Mapping[str, Interval]  # by policy
    difference: Interval | None  # first policy less the second, paired
    gates: Mapping[str, Sequence[Gate]]  # by policy
    decision: Decision | None  # None with one policy alone that may be told


def estimate_live(lists: LiveLists, versions: Mapping[str, str], confidence: float = 0.95) -> LiveEstimate:
    """Return the estimate of one or two policies; `versions` names the bundle of each.

    Raises UserError without lists.
    """
    rounds = {
        name: ListRounds(Slates(lists.reward, lists.propensity, chosen, lists.length), ASSUMPTION)
        for name, chosen in lists.chosen.items()
    }
    first = next(iter(rounds.values()))
    columns = {LOGGING: Terms(first.reward)}
    for name, each in rounds.items():
        earned = (each.weights * lists.reward * each.slates.shown).sum(axis=1)
        columns[name] = Terms(earned, each.weight)
    accumulator = Accumulator()
    accumulator.add(rounds, columns, hashed(lists.user, BLOCKS))
    sums = accumulator.sums()
    names = list(rounds)
    gates = {
        name: [
            *enough(first.reward),
            *weight_gates(sums, place),
            recomputed(rounds[name].slates, lists.made_by, versions[name]),
        ]
        for place, name in enumerate(names)
    }
    difference = None if len(names) < 2 else _paired(sums, names[0], names[1], confidence)
    failed = any(gate.verdict == "fail" for some in gates.values() for gate in some)
    return LiveEstimate(
        likelihood_interval(sums, {LOGGING: 1.0}, confidence),
        {name: likelihood_interval(sums, {name: 1.0}, confidence) for name in names},
        difference,
        gates,
        "cannot say" if failed else None if difference is None else _decided(difference),
    )


def enough(reward: RealArray) -> list[Gate]:
    """Return whether there are enough lists and responses to speak of, from the lists' total rewards, (list,)."""
    answered = int(np.count_nonzero(reward))
    return [
        Gate(
            name,
            "pass" if count >= fewest else "fail",
            float(count),
            f"≥ {fewest}",
            f"{count:,} lists {what}, at least {fewest} are needed",
        )
        for name, count, fewest, what in (
            ("lists", len(reward), FEWEST, "were replayed"),
            ("responses", answered, FEWEST_RESPONSES, "have a response"),
        )
    ]


def recomputed(slates: Slates, made_by: Sequence[str], version: str) -> Gate:
    """Return the A/A test: for lists that a bundle drew itself, its probabilities are those that were logged."""
    own = np.array([each == version for each in made_by], bool)
    name = "A/A: propensities recomputed"
    if not own.any():
        return Gate(name, "warn", None, f"≤ {SAME:g} apart", f"{version} drew none of these lists itself")
    gaps = np.abs(slates.ratio[own] - 1.0).max(axis=1)
    share = float((gaps > SAME).mean())
    return Gate(
        name,
        "pass" if share == 0.0 else "warn" if share <= 0.01 else "fail",
        share,
        f"≤ {SAME:g} apart",
        f"{version} drew {int(own.sum()):,} of these lists; computed anew, the probabilities of {share:.1%} of them "
        "are not those that were logged",
    )


def _paired(sums: Sums, one: str, other: str, confidence: float) -> Interval:
    """Return the difference on the same lists: the wider of the likelihood interval and the large-sample one."""
    columns = {one: 1.0, other: -1.0}
    exact = likelihood_interval(sums, columns, confidence)
    large = clustered_interval(sums, columns, confidence)
    return Interval(exact.mean, min(exact.low, large.low), max(exact.high, large.high))


def _decided(difference: Interval) -> Decision:
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference seen"
