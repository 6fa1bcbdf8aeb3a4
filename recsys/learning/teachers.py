"""Whom a student learns from: one network, or an ensemble of seeds whose Q is the mean of its members'.

Each member has its own item table, adaptation prior and index over both. Adapted states are each member's own: every
one adapts to the support through its own states, and the mean is taken of the adapted Q.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.candidates.index import CandidateIndex, build_index
from recsys.config import IndexConfig
from recsys.mdp.state import StateBatch
from recsys.models.item_table import ItemTable
from recsys.models.own_products import aligned, own_products
from recsys.models.q_network import QNetwork, StateVectors
from recsys.models.student import StudentNetwork
from recsys.types import FloatArray

EXACT_UP_TO = 30_000  # items
LOOKED_AT = 20_000  # items that a search for candidates looks at, beyond


@dataclass(frozen=True)
class Asked:
    """States of one network at which candidates are scored; first axis state."""

    query: torch.Tensor  # [f(s), w_u, 1], (state, feature)
    value: torch.Tensor  # V(s), (state,)


@dataclass(frozen=True)
class Learner:
    """A network with what adapts it, over one item table: a teacher's member, or the student."""

    network: QNetwork | StudentNetwork
    prior: AdaptationPrior
    table: ItemTable

    @cached_property
    def columns(self) -> torch.Tensor:
        """[e_i, φ(i), b_i] of every item, (item, feature): a view, since rows are stored `aligned`."""
        return self._rows[:, : self.table.vectors.shape[1] + self.table.features.shape[1] + 1]

    def q(self, asked: Asked, own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return Q, (state, own + shared), of each state's own items, (state, candidate), and of shared ones."""
        of_own = own_products(asked.query, self._rows, own)
        return asked.value[:, None] + torch.cat([of_own, asked.query @ self.columns[shared].T], dim=1)

    @cached_property
    def _rows(self) -> torch.Tensor:
        return aligned(self.table.index_vectors())

    def unadapted(
        self, states: StateVectors, batch: StateBatch, row: torch.Tensor, column: torch.Tensor
    ) -> Asked:
        """Return the states at (row, column) in prior mode."""
        fast = self.prior.without_support(batch.attributes)[row]
        return _asked(states, row, column, fast)

    def adapted(self, states: StateVectors, batch: StateBatch, shots: torch.Tensor, discount: float) -> Asked:
        """Return each row's state after its first `shots` events, adapted to them."""
        row = torch.arange(len(shots))
        fast = adapt_to_first(batch, states, self.table, self.prior, shots, discount)
        return _asked(states, row, shots, fast.mean)


@dataclass(frozen=True)
class Teacher:
    """The members with their indexes; without a member there is no teacher."""

    members: tuple[Learner, ...]
    indexes: tuple[CandidateIndex, ...]

    @staticmethod
    def of(members: Sequence[Learner]) -> "Teacher":
        """Index what each member ranks: exactly, or by cells where there are more than EXACT_UP_TO items.

        Every update searches for hundreds of states. Over a million items that takes seconds exactly, and a candidate
        that a cell hides is only not among those which are matched. A search then looks at LOOKED_AT items or so.
        """
        return Teacher(tuple(members), tuple(_indexed(m.columns.numpy()) for m in members))

    def best(self, asked: Sequence[Asked], count: int) -> list[torch.Tensor]:
        """Return about `count` of the best items of each state, shared among the members, (state, candidate) each."""
        each = -(-count // max(1, len(self.members)))
        return [
            torch.from_numpy(index.search(one.query.numpy(), each)[0])
            for index, one in zip(self.indexes, asked, strict=True)
        ]

    def q(self, asked: Sequence[Asked], own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return the mean of the members' Q, (state, own + shared)."""
        each = [member.q(one, own, shared) for member, one in zip(self.members, asked, strict=True)]
        return torch.stack(each).mean(dim=0)


def _indexed(columns: FloatArray) -> CandidateIndex:
    if len(columns) <= EXACT_UP_TO:
        return build_index(columns, IndexConfig(kind="flat"))
    cells = int(len(columns) ** 0.5)
    probes = max(1, round(LOOKED_AT * cells / len(columns)))
    return build_index(columns, IndexConfig(kind="ivf", ivf_cells=cells, ivf_probes=probes))


def _asked(states: StateVectors, row: torch.Tensor, column: torch.Tensor, fast: torch.Tensor) -> Asked:
    ones = torch.ones(len(row), 1)
    return Asked(torch.cat([states.advantage[row, column], fast, ones], dim=1), states.value[row, column])
