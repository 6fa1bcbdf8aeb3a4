"""What can be evaluated: the served object, a baseline, or a function of one's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.catalogue import Catalogue
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.live_catalogue import LiveCatalogue
from recsys.policies.exploration import ListDistribution
from recsys.recommender import LoggedEvent, Recommender
from recsys.types import ExternalId


@dataclass(frozen=True)
class Request:
    """What is known when a list is asked for: nothing later than `timestamp`."""

    user: str
    timestamp: float  # seconds, UTC
    length: int  # positions of the list that was shown
    seed: int  # of what the policy draws before it draws the list
    events: Sequence[LoggedEvent]  # oldest first
    attributes: Mapping[str, str]


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


class ServedPolicy:
    """A bundle as the endpoint serves it, adapted to each user's events at each request."""

    reads_impressions: bool

    def __init__(
        self,
        recommender: Recommender,
        name: str = "",
        *,
        exclude_seen: bool = True,
        adapt: bool = True,
        greedy: bool = False,
    ) -> None:
        self._recommender = recommender
        self._exclude_seen, self._adapt, self._greedy = exclude_seen, adapt, greedy
        self.name = name or recommender.version
        self.item_ids = recommender.catalogue.item_ids
        self.reads_impressions = recommender.reads_impressions

    @property
    def version(self) -> str:
        """The bundle's version, as it stands in logs."""
        return self._recommender.version

    @property
    def reward(self) -> RewardConfig:
        """What events are worth to what the bundle learnt."""
        return self._recommender.reward

    def distribution(self, request: Request) -> ListDistribution:
        """Return what the recommender draws from, for the history that the endpoint would have built."""
        history = self._recommender.history(request.events, dict(request.attributes) or None)
        return self._recommender.distribution(
            history,
            request.length,
            seed=request.seed,
            exclude_seen=self._exclude_seen,
            adapt=self._adapt,
            greedy=self._greedy,
        )


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
