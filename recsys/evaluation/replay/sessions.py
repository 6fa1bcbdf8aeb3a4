"""Sessions as one long list each, for `horizon = "session"`: a later list is what came of an earlier one.

The lists of a session, end to end, are a cascade: the weight of a position is the product of the ratios of everything
shown in the session up to it. Under *cascade* IPS is then per-decision importance sampling, DR its doubly robust form
(Jiang & Li 2016, with the model of immediate rewards for a control variate); under *whole* IPS is trajectory-wise.
The value is a session's total reward, undiscounted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from recsys.evaluation.intervals import Interval
from recsys.evaluation.ope.sessions import session_estimates
from recsys.evaluation.ope.slates import Slates
from recsys.evaluation.ope.trajectories import Trajectories
from recsys.evaluation.replay.drive import ReplayedLists
from recsys.types import LongArray, RealArray

MOST_STEPS: Final = 2_000_000  # shown items whose weights are kept; sessions beyond count in the sums alone
_MOST_ANSWERS: Final = 3  # responses so far, of the states that marginalised estimates count visits of


@dataclass(frozen=True)
class _Layout:
    """Where each request stands in its session."""

    order: LongArray  # requests by session and time
    row: LongArray  # (request,) in that order: its session
    offset: LongArray  # (request,) its first position
    first: LongArray  # (session,) its first request
    length: LongArray  # (session,) positions

    def laid(self, values: RealArray, lengths: LongArray, fill: float) -> RealArray:
        """Return values of (request, position) end to end, (session, position)."""
        shown = np.arange(values.shape[1]) < lengths[:, None]
        out: RealArray = np.full((len(self.length), int(self.length.max(initial=1))), fill)
        place = self.offset[:, None] + np.arange(values.shape[1])
        row = np.broadcast_to(self.row[:, None], shown.shape)
        out[row[shown[self.order]], place[shown[self.order]]] = values[self.order][shown[self.order]]
        return out


def chained(lists: ReplayedLists) -> tuple[ReplayedLists, LongArray]:
    """Return the sessions of a bucket as lists, and the responses to earlier lists at each position."""
    slates = next(iter(lists.slates.values()))
    where = _layout(lists, slates.length)

    def joined(one: Slates) -> Slates:
        lengths = one.length
        return Slates(
            where.laid(one.reward, lengths, 0.0),
            where.laid(one.propensity, lengths, 1.0),
            where.laid(one.chosen, lengths, 1.0),
            where.length,
            None if one.q_logged is None else where.laid(one.q_logged, lengths, 0.0),
            None if one.value is None else where.laid(one.value, lengths, 0.0),
            None if one.cluster is None else one.cluster[where.first],
            one.max_weight,
        )

    answered = (slates.reward * slates.shown > 0).sum(axis=1)[where.order]
    so_far = np.cumsum(answered) - answered
    so_far -= so_far[np.searchsorted(where.row, where.row)]
    by_request: RealArray = np.empty(len(so_far))
    by_request[where.order] = np.minimum(so_far, _MOST_ANSWERS)
    state = where.laid(np.broadcast_to(by_request[:, None], slates.reward.shape), slates.length, 0.0)
    first = where.first
    made = ReplayedLists(
        {name: joined(one) for name, one in lists.slates.items()},
        lists.time[first],
        lists.events_used[first],
        [lists.versions[place] for place in first.tolist()],
        [lists.recommendation[place] for place in first.tolist()],
        where.laid(lists.item.astype(np.float64), slates.length, -1.0).astype(np.int64),
        lists.first_item_age_s[first],
        {name: [values[place] for place in first.tolist()] for name, values in lists.attributes.items()},
        lists.session[first],
        {name: where.laid(values, slates.length, 1.0) for name, values in lists.recomputed.items()},
    )
    return made, state.astype(np.int64)


def _layout(lists: ReplayedLists, lengths: LongArray) -> _Layout:
    order = np.lexsort((lists.time, lists.session))
    session = lists.session[order]
    fresh = np.append(True, session[1:] != session[:-1])
    starts = np.flatnonzero(fresh)
    before = np.cumsum(lengths[order]) - lengths[order]
    row = np.cumsum(fresh) - 1
    total = np.add.reduceat(lengths[order], starts)
    return _Layout(order, row, before - before[starts][row], order[starts], total)


@dataclass
class SessionSteps:
    """The steps of sessions end to end, for estimates that weigh a step by what all sessions weigh there."""

    _parts: list[tuple[Mapping[str, Slates], LongArray]] = field(default_factory=list)
    _steps: int = 0

    def add(self, lists: ReplayedLists, state: LongArray) -> None:
        """Keep a bucket, while there is room."""
        if self._steps < MOST_STEPS:
            self._parts.append((lists.slates, state))
            self._steps += int(next(iter(lists.slates.values())).length.sum())

    def estimates(
        self, policy: str, confidence: float, generator: np.random.Generator
    ) -> dict[str, Interval]:
        """Return the weighted and marginalised estimates of a policy; nothing without sessions."""
        slates = [made[policy] for made, _ in self._parts]
        if not slates:
            return {}
        modelled = all(one.q_logged is not None for one in slates)
        lengths = np.concatenate([one.length for one in slates])
        made = Trajectories(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([one.reward[one.shown] for one in slates]),
            np.concatenate([one.propensity[one.shown] for one in slates]),
            np.concatenate([one.chosen[one.shown] for one in slates]),
            1.0,
            np.concatenate([_of(one.q_logged)[one.shown] for one in slates]) if modelled else None,
            np.concatenate([_of(one.value)[one.shown] for one in slates]) if modelled else None,
        )
        state = np.concatenate(
            [one_state[one.shown] for one, (_, one_state) in zip(slates, self._parts, strict=True)]
        )
        user = np.concatenate([_of(one.cluster) for one in slates])
        return session_estimates(made, state, np.unique(user, return_inverse=True)[1], generator, confidence)


def _of(array: Any) -> Any:
    assert array is not None  # noqa: S101 - drive gives users, and models where it says so
    return array
