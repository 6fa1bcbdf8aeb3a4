"""Which actions a next state offers: what the index finds likely (the ranker), or all of a small fixed set.

Where a policy is evaluated that stands still, the one that it takes.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from recsys.candidates.index import CandidateIndex, build_index
from recsys.config import IndexConfig
from recsys.learning.encoding import EncodedTransitions
from recsys.models.item_tower import LARGE_CATALOGUE
from recsys.models.q_network import QNetwork, behavior_of_own, q_of_own, q_of_pairs
from recsys.models.vector_network import VectorNetwork

ITEMS_PER_CELL = 1_000
PROBES = 6


@dataclass(frozen=True)
class NextActions:
    """Candidates of next states under both networks; all but `logged` have shape (state, candidate)."""

    item: torch.Tensor | None  # index of each candidate; None = the candidate's place is its index
    q_online: torch.Tensor | None  # None where the online network does not choose
    q_target: torch.Tensor
    behavior_logit: torch.Tensor | None  # None without a behaviour head
    allowed: torch.Tensor | None  # None = all
    logged: torch.Tensor  # (state,) place of what was logged there; it says nothing where the log was cut

    def at(self, place: torch.Tensor) -> torch.Tensor:
        """Return the index of the candidate at one place of each state, (state,)."""
        return place if self.item is None else self.item.gather(1, place[:, None])[:, 0]


class NextActionSource(Protocol):
    """Finds the candidates of next states."""

    def refresh(self) -> None:
        """Take up what the target network has become."""
        ...

    def of(self, transitions: EncodedTransitions) -> NextActions:
        """Return the candidates of the next states."""
        ...


class AllActions:
    """Every action of a small fixed set."""

    def __init__(self, network: VectorNetwork, target: VectorNetwork) -> None:
        self.network, self.target = network, target

    def refresh(self) -> None:
        """Nothing is kept between updates."""

    def of(self, transitions: EncodedTransitions) -> NextActions:
        """Return all actions of every next state."""
        there, q_target, behavior_logit = transitions.there, transitions.q_there, None
        if q_target is None:
            target_there = transitions.through_target()
            q_target, behavior_logit = self.target.q_all(target_there), self.target.behavior_all(target_there)
        return NextActions(
            item=None,
            q_online=None if there is None else self.network.q_all(there),
            q_target=q_target,
            behavior_logit=behavior_logit,
            allowed=transitions.allowed,
            logged=transitions.next_action.clamp(min=0),
        )


class LikelyActions:
    """The logged next item and the top-C of the target network's behaviour head, found by an index over its items."""

    def __init__(self, network: QNetwork, target: QNetwork, count: int) -> None:
        self.network, self.target, self.count = network, target, count
        self.index: CandidateIndex | None = None

    def refresh(self) -> None:
        """Rebuild the index from the target network."""
        self.index = behavior_index(self.target)

    def of(self, transitions: EncodedTransitions) -> NextActions:
        """Return the candidates of each state, the logged one first."""
        if self.index is None:
            raise RuntimeError("refresh_index must run before the first update with targets")
        target_there, logged = transitions.through_target(), transitions.next_action
        likely = found(self.index, target_there.behavior, self.count)
        # where the log goes on, what was really done next is a candidate too; cells may hold fewer than asked for
        allowed = torch.cat([logged[:, None], likely], dim=1) >= 0
        likely = likely.clamp(min=0)
        item = torch.cat([torch.where(logged < 0, likely[:, 0], logged)[:, None], likely], dim=1)
        # states share most of their candidates: each is looked up once and stands in as many places as it has
        once, place = torch.unique(item, return_inverse=True)
        online, target_side = transitions.there, self.target.item_side(once)
        return NextActions(
            item=item,
            q_online=None if online is None else q_of_own(online, self.network.item_side(once), place),
            q_target=q_of_own(target_there, target_side, place),
            behavior_logit=behavior_of_own(target_there, target_side, place),
            allowed=allowed,
            logged=torch.zeros_like(logged),
        )


class BestActions:
    """The one item of all that a policy values most; the policy stands still."""

    def __init__(self, policy: QNetwork, target: QNetwork) -> None:
        self.policy, self.target = policy, target
        self.index: CandidateIndex | None = None

    def refresh(self) -> None:
        """Index the policy's items once."""
        if self.index is None:
            self.index = value_index(self.policy)

    def of(self, transitions: EncodedTransitions) -> NextActions:
        """Return the policy's choice in each state as the only candidate."""
        there, target_there = transitions.there, transitions.through_target()
        if self.index is None or there is None:
            raise RuntimeError(
                "refresh_index must run before the first update, and the policy must see next states"
            )
        item = found(self.index, there.advantage, 1)
        chosen = item[:, 0]
        return NextActions(
            item=item,
            q_online=q_of_pairs(there, self.policy.item_side(chosen))[:, None],
            q_target=q_of_pairs(target_there, self.target.item_side(chosen))[:, None],
            behavior_logit=None,
            allowed=None,
            logged=torch.zeros_like(chosen),
        )


def behavior_index(target: QNetwork) -> CandidateIndex:
    """Return an index that finds the actions most likely under the behaviour head of the target network."""
    return _indexed(target.tower.table()[0], target.behavior_bias.weight)


def value_index(policy: QNetwork) -> CandidateIndex:
    """Return an index that finds the actions of the largest Q."""
    vectors, bias = policy.tower.table()
    return _indexed(vectors, bias[:, None] * policy.temperature)


def found(index: CandidateIndex, query: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` best items of queries g(s) or f(s), (state, candidate); -1 where cells hold fewer."""
    with_bias = torch.cat([query, query.new_ones(len(query), 1)], dim=1)
    return torch.from_numpy(index.search(with_bias.cpu().numpy(), count)[0]).long().to(query.device)


def _indexed(vectors: torch.Tensor, bias: torch.Tensor) -> CandidateIndex:
    items = len(bias)
    if items < LARGE_CATALOGUE:
        config = IndexConfig(kind="flat")
    else:  # approximate: a state's search then reads PROBES · ITEMS_PER_CELL items, however many there are
        config = IndexConfig(kind="ivf", ivf_cells=items // ITEMS_PER_CELL, ivf_probes=PROBES)
    return build_index(torch.cat([vectors, bias], dim=1).cpu().numpy(), config)
