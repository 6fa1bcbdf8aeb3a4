"""What can be evaluated: the served object, a baseline, or a function of one's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

import numpy as np

from recsys.ask import Ask
from recsys.candidates.content import Likeness
from recsys.catalogue import Catalogue
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.live_catalogue import ItemChange, LiveCatalogue
from recsys.policies.exploration import ListDistribution
from recsys.ranker import Allowed
from recsys.recommender import LoggedEvent, Recommender
from recsys.types import BoolArray, ExternalId


@dataclass(frozen=True)
class Request:
    """What is known when a list is asked for: nothing later than `timestamp`."""

    user: str
    timestamp: float  # seconds, UTC
    length: int  # positions of the list that was shown
    seed: int  # of what the policy draws before it draws the list
    events: Sequence[LoggedEvent]  # oldest first
    attributes: Mapping[str, str]
    ask: Ask | None = (
        None  # of the endpoint's own lists: filter, excluded items, the caller's candidates, variant
    )


class EvaluationPolicy(Protocol):
    """Anything that says which lists it could answer a request with, and how likely."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def item_ids(self) -> Sequence[ExternalId]:
        """External ids by item index."""
        ...

    @property
    def reads_impressions(self) -> bool:
        """Whether events hold what was shown without response."""
        ...

    def distribution(self, request: Request) -> ListDistribution:
        """Return what it would draw a list from."""
        ...


class PolicyError(RuntimeError):
    """What a policy raised when it was asked, as the cause, and who it is."""

    def __init__(self, policy: EvaluationPolicy, user: str) -> None:
        super().__init__(f"a policy cannot answer a request of {user}")
        self.policy, self.user = policy, user


@runtime_checkable
class FollowsCatalogue(Protocol):
    """A policy whose catalogue changes while the log goes on."""

    def follow(self, changes: Sequence[ItemChange]) -> None:
        """Take the changes there are, by revision."""
        ...

    def at(self, revision: int) -> None:
        """Be as the catalogue was at a revision."""
        ...


@runtime_checkable
class KnowsItsLines(Protocol):
    """A policy that can draw again what it drew for a line of the log that it made."""

    @property
    def version(self) -> str:
        """Its version, as it stands in logs."""
        ...

    def as_logged(self, request: Request) -> ListDistribution | None:
        """Return what the line was drawn from; None if that is what `distribution` returns."""
        ...


class ServedPolicy:
    """A bundle as the endpoint serves it, adapted to each user's events at each request.

    Where a request is the endpoint's own, its filter, excluded items and candidates hold for every bundle alike.
    """

    reads_impressions: bool

    def __init__(
        self,
        recommender: Recommender,
        name: str = "",
        *,
        exclude_seen: bool = True,
        adapt: bool = True,
        greedy: bool = False,
        trained_until: datetime | None = None,
    ) -> None:
        self._recommender = recommender
        self.trained_until = trained_until  # of the newest event that it learnt from, if that is known
        self._exclude_seen, self._adapt, self._greedy = exclude_seen, adapt, greedy
        self.name = name or recommender.version
        self.reads_impressions = recommender.reads_impressions
        self._changes: list[tuple[ItemChange, Likeness | None]] = []
        self._applied = 0

    @property
    def item_ids(self) -> Sequence[ExternalId]:
        """External ids by item index, those added since the bundle was made behind its own."""
        return self._recommender.catalogue.item_ids

    @property
    def catalogue(self) -> LiveCatalogue:
        """What the items are, as of the request at hand."""
        return self._recommender.catalogue

    @property
    def version(self) -> str:
        """The bundle's version, as it stands in logs."""
        return self._recommender.version

    @property
    def reward(self) -> RewardConfig:
        """What events are worth to what the bundle learnt."""
        return self._recommender.reward

    def follow(self, changes: Sequence[ItemChange]) -> None:
        """Take the changes there are; what added items are like is found once."""
        if [change for change, _ in self._changes] != list(changes):
            like = self._recommender.likeness
            self._changes = [(change, like(change.item_id, change.fields)) for change in changes]
        self.at(0)

    def at(self, revision: int) -> None:
        """Apply the changes up to a revision; to go back, begin with the bundle's own catalogue."""
        if not self._changes or revision == self._recommender.catalogue.revision:
            return
        if revision < self._recommender.catalogue.revision:
            self._recommender, self._applied = self._recommender.unchanged(), 0
        while self._applied < len(self._changes) and self._changes[self._applied][0].revision <= revision:
            change, like = self._changes[self._applied]
            self._recommender.change(*change, like)
            self._applied += 1

    def may_show(self, request: Request) -> BoolArray:
        """Return which items the request leaves, (item,): by availability, filter, candidates, and what was had."""
        mask = self._allowed(request).mask.copy()
        history = self._recommender.history(request.events)
        index_of = self._recommender.catalogue.index_of
        gone = [index_of[item] for item in self._excluded(request) if item in index_of]
        mask[gone] = False
        if self._excludes_seen(request):
            mask[history.item] = False
        return mask

    def distribution(self, request: Request) -> ListDistribution:
        """Return what the recommender draws from, for the history that the endpoint would have built."""
        return self._drawn_from(request, adapt=self._adapt, logged=False)

    def as_logged(self, request: Request) -> ListDistribution | None:
        """Return what a list of this bundle was drawn from: its variant's exploration, on the rung that answered."""
        ask = request.ask
        if ask is None or (ask.exploration is None and ask.rung == self._recommender.ladder[0]):
            return None
        return self._drawn_from(request, adapt=ask.rung != "unadapted", logged=True)

    def _drawn_from(self, request: Request, *, adapt: bool, logged: bool) -> ListDistribution:
        recommender, ask = self._recommender, request.ask
        index_of = recommender.catalogue.index_of
        return recommender.distribution(
            recommender.history(request.events, dict(request.attributes) or None),
            request.length if ask is None else max(request.length, ask.n),
            seed=request.seed,
            exclude={index_of[item] for item in self._excluded(request) if item in index_of},
            exclude_seen=self._excludes_seen(request),
            adapt=adapt,
            memory=True if logged else None,  # the rung below adapts no weights and keeps the memory
            greedy=self._greedy and not logged,
            exploration=ask.exploration if logged and ask is not None else None,
            allowed=self._allowed(request),
        )

    def _allowed(self, request: Request) -> Allowed:
        ask = request.ask
        return (
            self._recommender.allowed() if ask is None else self._recommender.allowed(ask.wanted, ask.among)
        )

    def _excluded(self, request: Request) -> Sequence[ExternalId]:
        return () if request.ask is None else request.ask.exclude

    def _excludes_seen(self, request: Request) -> bool:
        return self._exclude_seen if request.ask is None else request.ask.exclude_seen


@dataclass(frozen=True)
class FunctionPolicy:
    """A function that gives weights to items, (item,); lists are drawn without replacement in proportion to them."""

    name: str
    item_ids: Sequence[ExternalId]
    weights: Callable[[Request], Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]]
    reads_impressions: bool = False

    def distribution(self, request: Request) -> ListDistribution:
        """Return the distribution; raises UserError for weights that are none."""
        given = np.asarray(self.weights(request), np.float64)
        if (
            given.shape != (len(self.item_ids),)
            or not np.isfinite(given).all()
            or given.min(initial=0.0) < 0.0
        ):
            raise UserError(
                f"{self.name} gave weights of shape {given.shape} from {given.min(initial=0.0):g} for "
                f"{len(self.item_ids):,} items, must be one for each, finite and at least 0; mend the function"
            )
        items = np.flatnonzero(given > 0).astype(np.int32)
        order = items[np.argsort(-given[items], kind="stable")]
        return ListDistribution.softmax(order, np.log(given[order]))


def random_policy(catalogue: Catalogue | LiveCatalogue | Sequence[ExternalId]) -> FunctionPolicy:
    """Return the policy that shows every item equally often."""
    ids = tuple(catalogue.item_ids if isinstance(catalogue, Catalogue | LiveCatalogue) else catalogue)
    even = np.ones(len(ids))
    return FunctionPolicy("random", ids, lambda request: even)


class RandomOf:
    """The policy that shows whatever another may show equally often, catalogue and filters included."""

    name, reads_impressions = "random", False

    def __init__(self, other: ServedPolicy) -> None:
        self._other = other
        self.follow, self.at = other.follow, other.at

    @property
    def item_ids(self) -> Sequence[ExternalId]:
        """The other's items."""
        return self._other.item_ids

    def distribution(self, request: Request) -> ListDistribution:
        """Return equal chances."""
        items = np.flatnonzero(self._other.may_show(request)).astype(np.int32)
        return ListDistribution.softmax(items, np.zeros(len(items)))
