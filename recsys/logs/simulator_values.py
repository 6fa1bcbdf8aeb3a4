"""Exact values of the simulated world: the optimum, and what any policy that sees the hidden state is worth.

Inside a class of items (topic t, kind k) the action value is a line in the item's appeal a,

    Q(s, i) = N(s, t) + a · G(s, t, k),   N = γ E[V | no response, t],   G = g (E[r | k] + γ E[V | response, t, k] − N)

with g the response probability at appeal 1. So the best item of a class is the one of highest or of lowest appeal to
the user's type, and a maximum over the whole catalogue is one over two items a class. Arrays over states have shape
(type, recent, trust, boredom).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.errors import UserError
from recsys.logs.simulator import KINDS, RealArray, UserState, World
from recsys.types import IntArray, LongArray

_TOLERANCE: Final = 1e-10
_MOST_SWEEPS: Final = 100_000


@dataclass(frozen=True)
class Lines:
    """Q as lines in the appeal, for every state and class."""

    level: RealArray  # N, (type, recent, trust, boredom, topic)
    slope: RealArray  # G, (type, recent, trust, boredom, topic, kind)


@dataclass(frozen=True)
class Solution:
    """What a rule that sees the hidden state does and is worth."""

    item: IntArray  # (type, recent, trust, boredom)
    value: RealArray  # V of that rule, (type, recent, trust, boredom)


def class_lines(world: World, value: RealArray, discount: float) -> Lines:
    """Return N and G for values V of the next states."""
    rules = world.settings
    ahead = discount * _before_the_end(world, value)  # (type, recent, trust, boredom)
    bored = np.minimum(np.arange(len(rules.session_end)) + 1, len(rules.session_end) - 1)
    level = np.moveaxis(ahead[:, world.after][..., bored], 2, -1)
    pleased = np.moveaxis(ahead[..., 0][:, world.after], 2, -1)  # (type, recent, trust, topic), boredom 0
    trust = np.arange(len(rules.trust_response))
    moved = np.clip(trust[:, None] + np.asarray(rules.trust_step), 0, len(trust) - 1)  # (trust, kind)
    share = np.asarray(rules.trust_move)
    # (type, recent, trust, kind, topic) -> (type, recent, trust, topic, kind)
    later = np.swapaxes(pleased[:, :, moved], 3, 4) * share + pleased[..., None] * (1.0 - share)
    gain = (class_rewards(world) + later)[:, :, :, None] - level[..., None]
    return Lines(level, _response_at_full_appeal(world)[:, :, :, None] * gain)


def class_rewards(world: World) -> RealArray:
    """Return the expected reward of a response to each kind, (kind,)."""
    share = np.asarray(world.settings.purchase_share)
    _, click, purchase = world.settings.response_reward
    return (1.0 - share) * click + share * purchase


def solve(world: World, discount: float = 1.0) -> Solution:
    """Return the optimum: policy iteration from the myopic rule until no state improves.

    Rules on the way are valued coarsely, the last one finely.
    """
    choice = myopic_rule(world)
    value = np.zeros(world.settings.shape)
    for tolerance in (1e-3, 1e-6, _TOLERANCE):
        improves = True
        while improves:
            value = rule_value(world, choice, discount, value, tolerance)
            lines = class_lines(world, value, discount)
            best, item = _best(world, lines.level, lines.slope)
            better = best - _at(world, lines, choice) > 10 * tolerance
            choice = np.where(better, item, choice).astype(np.int32)
            improves = bool(better.any())
    return Solution(choice, value)


def myopic_rule(world: World) -> IntArray:
    """Return the item of highest expected immediate reward in each state."""
    lines = class_lines(world, np.zeros(world.settings.shape), 0.0)
    return _best(world, lines.level, lines.slope)[1]


def rule_value(
    world: World,
    item: IntArray,
    discount: float = 1.0,
    start: RealArray | None = None,
    tolerance: float = _TOLERANCE,
) -> RealArray:
    """Return V of the rule that shows `item` (state) in each state."""
    topic, kind = world.topic[item], world.kind[item]
    branches = _Branches(world, discount)
    p = world.response_probability(branches.users, item)
    branches.add_response(p, topic, kind)
    branches.add_silence(1.0 - p, topic)
    return branches.value(start, tolerance)


def mixture_value(world: World, probability: npt.NDArray[np.floating], discount: float = 1.0) -> RealArray:
    """Return V of showing items by fixed probabilities, (item,), whatever the state.

    Σ_i π(i) p(s, i) = Σ_classes g(s, class) Σ_{i in class} π(i) appeal(i): only classes count.
    """
    topics = world.settings.topics
    item_class = world.topic * len(KINDS) + world.kind
    classes = topics * len(KINDS)
    mass = np.bincount(item_class, probability, minlength=classes).reshape(topics, -1).sum(axis=1)
    appeal = np.stack([np.bincount(item_class, probability * row, minlength=classes) for row in world.appeal])
    response = _response_at_full_appeal(world)[:, :, :, None]  # an axis for boredom
    branches = _Branches(world, discount)
    for topic in range(topics):  # over classes
        left = np.full(world.settings.shape, mass[topic])
        for kind in range(len(KINDS)):
            p = response[..., topic, kind] * appeal[:, topic * len(KINDS) + kind, None, None, None]
            branches.add_response(p, topic, kind)
            left -= p
        branches.add_silence(left, topic)
    return branches.value()


def action_values(world: World, value: RealArray, users: UserState, discount: float = 1.0) -> RealArray:
    """Return the exact Q(s, i) of every item for some users, (user, item), where `value` is V of what follows."""
    lines = class_lines(world, value, discount)
    level = lines.level[users.hidden][:, world.topic]
    slope = lines.slope[users.hidden][:, world.topic, world.kind]
    q_values: RealArray = level + world.appeal[users.type] * slope
    return q_values


def start_value(world: World, value: RealArray) -> float:
    """Return the mean of V over new users."""
    return float(value[:, 0, world.settings.first_trust, 0].mean())


class _Branches:
    """What follows each state, branch by branch: the linear system V = reward + Σ weight · E[V(place)]."""

    def __init__(self, world: World, discount: float) -> None:
        kinds, recent, trust, boredom = np.indices(world.settings.shape, dtype=np.int32)
        self.users = UserState(kinds, kinds, recent, trust, boredom)  # every state
        self._world = world
        self._discount = discount
        self._reward = np.zeros(world.settings.shape)
        self._branches: list[tuple[RealArray, LongArray]] = []

    def add_response(self, probability: RealArray, topic: IntArray | int, kind: IntArray | int) -> None:
        """Add that the item is responded to: no boredom, and trust may move."""
        rules, users = self._world.settings, self.users
        self._reward += probability * class_rewards(self._world)[kind]
        share = np.asarray(rules.trust_move)[kind]
        moved = np.clip(users.trust + np.asarray(rules.trust_step)[kind], 0, len(rules.trust_response) - 1)
        self._add(probability * (1.0 - share), topic, users.trust, np.zeros_like(users.boredom))
        self._add(probability * share, topic, moved, np.zeros_like(users.boredom))

    def add_silence(self, probability: RealArray, topic: IntArray | int) -> None:
        """Add that it is not: boredom grows."""
        bored = np.minimum(self.users.boredom + 1, len(self._world.settings.session_end) - 1)
        self._add(probability, topic, self.users.trust, bored)

    def _add(self, weight: RealArray, topic: IntArray | int, trust: IntArray, boredom: IntArray) -> None:
        if weight.any():
            after = self._world.after[self.users.recent, topic]
            place = np.ravel_multi_index((self.users.type, after, trust, boredom), self._world.settings.shape)
            self._branches.append((self._discount * weight, place))

    def value(self, start: RealArray | None = None, tolerance: float = _TOLERANCE) -> RealArray:
        """Return V by successive substitution, which contracts because every user leaves some day."""
        value = self._reward if start is None else start
        for _ in range(_MOST_SWEEPS):
            ahead = _before_the_end(self._world, value).ravel()
            after = self._reward.copy()
            for weight, place in self._branches:
                after += weight * ahead[place]
            change = float(np.abs(after - value).max())
            value = after
            if change <= tolerance:
                return value
        raise UserError(
            f"values have not settled after {_MOST_SWEEPS:,} sweeps (last change {change:.1e}); "
            "lower return_share or raise session_end"
        )


def _before_the_end(world: World, value: RealArray) -> RealArray:
    """Return E[V] before it is drawn whether the session ends and the user returns, in the shape of `value`."""
    end = np.asarray(world.settings.session_end)
    back = np.asarray(world.settings.return_share)[:, None]
    rested = value[:, :1, :, :1]  # nothing recent, no boredom
    ahead: RealArray = (1.0 - end) * value + end * back * rested
    return ahead


def _response_at_full_appeal(world: World) -> RealArray:
    """Return g, (type, recent, trust, topic, kind) without the axis of boredom."""
    rules = world.settings
    fresh = np.asarray(rules.freshness)[world.count]  # (recent, topic)
    by_topic = world.taste[:, None] * fresh  # (type, recent, topic)
    by_trust = by_topic[:, :, None] * np.asarray(rules.trust_response)[:, None]
    response: RealArray = by_trust[..., None] * np.asarray(rules.attraction)
    return response


def _extremes(world: World) -> tuple[IntArray, RealArray]:
    """Return the items of lowest and highest appeal, and that appeal, each (type, topic, kind, 2).

    A class without items has item −1 and an appeal of NaN.
    """
    shape = (world.settings.types, world.settings.topics, len(KINDS), 2)
    item, appeal = np.full(shape, -1, np.int32), np.full(shape, np.nan)
    for topic in range(shape[1]):  # over classes
        for kind in range(shape[2]):
            inside = np.flatnonzero((world.topic == topic) & (world.kind == kind))
            if len(inside):
                ends = world.appeal[:, inside]
                chosen = inside[np.stack([ends.argmin(axis=1), ends.argmax(axis=1)], axis=1)]
                item[:, topic, kind] = chosen
                appeal[:, topic, kind] = np.take_along_axis(world.appeal, chosen, axis=1)
    return item, appeal


def _best(world: World, level: RealArray, slope: RealArray) -> tuple[RealArray, IntArray]:
    """Return max over the catalogue of Q and the item that has it, in each state."""
    item, appeal = _extremes(world)
    kinds = world.settings.types
    q_values = level[..., None, None] + slope[..., None] * appeal[:, None, None, None]
    q_values = np.nan_to_num(q_values.reshape(*world.settings.shape, -1), nan=-np.inf)
    place = q_values.argmax(axis=-1)
    best = np.take_along_axis(q_values, place[..., None], axis=-1)[..., 0]
    chosen = item.reshape(kinds, -1)[np.arange(kinds)[:, None, None, None], place]
    return best, chosen.astype(np.int32)


def _at(world: World, lines: Lines, item: IntArray) -> RealArray:
    """Return Q of one item in each state."""
    place = tuple(np.indices(world.settings.shape))
    topic, kind = world.topic[item], world.kind[item]
    q_values: RealArray = (
        lines.level[(*place, topic)] + world.appeal[place[0], item] * lines.slope[(*place, topic, kind)]
    )
    return q_values
