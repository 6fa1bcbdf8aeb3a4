"""What a ranker is asked for and answers with, and what is served of it; the rankers are in recsys/rankers.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from recsys.candidates.content import Likeness
from recsys.mdp.state import History
from recsys.types import BoolArray, FloatArray, IntArray, LongArray

ServedBy = Literal["adapted", "unadapted", "policy", "popular"]


@dataclass(frozen=True)
class Allowed:
    """Which items may be shown."""

    mask: BoolArray  # (item,)

    @cached_property
    def count(self) -> int:
        """How many they are."""
        return int(self.mask.sum())

    @cached_property
    def everything(self) -> bool:
        """Whether that is all."""
        return self.count == len(self.mask)

    @cached_property
    def items(self) -> IntArray:
        """Which they are, (allowed,)."""
        return np.flatnonzero(self.mask).astype(np.int32)


@dataclass(frozen=True)
class Ranking:
    """The best allowed candidates, best first; the first two have shape (candidate,)."""

    items: IntArray
    scores: FloatArray
    support_events: int  # events of the history that the scores were adapted to, or made from
    served_by: ServedBy
    unit: float = 1.0  # of the scores, in which the temperature of exploration is given
    samples: FloatArray | None = None  # scores under draws of the posterior, (draw, candidate)


@dataclass(frozen=True)
class Recommendation:
    """A served list; all arrays but `candidates` have shape (position,)."""

    items: IntArray
    scores: FloatArray  # adapted Q, or a baseline's own; popularity for a popular list
    propensities: FloatArray  # probability of the item given the state and the items above it
    support_events: int  # events the fast weights were adapted to, or that a baseline read
    served_by: ServedBy
    policy: str  # for example "plackett_luce(temperature=0.02)" or "item_knn/greedy"
    candidates: IntArray  # what could have been shown, best first
    seed: int  # the same history and seed give the same list


@dataclass(frozen=True)
class Depth:
    """How much of a history a ranking uses."""

    adapt: bool = True  # fast weights, rather than what suits users in general
    memory: bool = True  # the part of the state that sums over the history
    samples: int = 0  # draws of the posterior to score with besides
    seed: int = 0  # of the draws


class Ranker(Protocol):
    """Ranks the catalogue for a history; what it is read with and changed with share one thread."""

    @property
    def name(self) -> str:
        """What it is called in logs; empty for the student."""
        ...

    @property
    def rungs(self) -> tuple[ServedBy, ...]:
        """Ways in which it can answer, best first."""
        ...

    def ranked(self, history: History, n: int, banned: IntArray, allowed: Allowed, depth: Depth) -> Ranking:
        """Return at least n allowed candidates without the banned items; fewer if there are no more."""
        ...

    def questions(self, history: History, n: int, banned: IntArray) -> LongArray:
        """Return at most n items whose feedback would teach most about a user, (question,), in the order to ask."""
        ...

    def scores_of(
        self, histories: Sequence[History], items: IntArray, *, adapt: bool = True, memory: bool = True
    ) -> FloatArray:
        """Return what each history gives to items, (history, item)."""
        ...

    def deviations(self, history: History, items: IntArray) -> FloatArray | None:
        """Return the posterior's standard deviation of Q of items, (item,); None if it has no posterior."""
        ...

    def put(self, index: int, like: Likeness) -> None:
        """Rank an item added to the catalogue like those it is like."""
        ...

    def directions(self, items: IntArray) -> FloatArray | None:
        """Return vectors whose products say how alike items are, (item, feature); None if it has none.

        They have length 1, or 0 where nothing is known of an item.
        """
        ...
