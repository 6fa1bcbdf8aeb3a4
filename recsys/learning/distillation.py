"""Teacher -> student: match Q where it decides, before and after adaptation.

On a candidate set C (the teacher's best items ∪ random ones ∪ the logged next item) the losses are
    KL( softmax(Q_T / T) ‖ softmax(Q_S / T) )                 the order among candidates (Hinton et al. 2015)
    mean (A_T − A_S)², A = (Q − mean over C of Q) / T         the gaps between them
    cross-entropy of the logged next item under Q_S / T       the hard label
and the squared distance of V and U, which evidence is measured against. States in prior mode and states adapted to a
sampled support are treated alike: what is distilled includes how the teacher adapts.
"""

from dataclasses import dataclass

import torch

from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.candidates.index import CandidateIndex
from recsys.config import DistillConfig
from recsys.learning.losses import mean
from recsys.mdp.state import StateBatch
from recsys.mdp.windows import first_seen
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork, StateVectors
from recsys.models.student import StudentNetwork

STATES_PER_BATCH = 256  # prior-mode states that a batch of windows is asked about


@dataclass(frozen=True)
class DistillationLosses:
    """Scalars of one update; `total` carries the gradient."""

    total: torch.Tensor
    prior_kl: float
    adapted_kl: float
    advantage: float
    next_item: float


@dataclass(frozen=True)
class Asked:
    """States of one network at which candidates are scored; first axis state."""

    advantage: torch.Tensor
    value: torch.Tensor
    fast: torch.Tensor  # fast weights, (state, feature)


class Distiller:
    """Turns batches of windows into losses of the student against a frozen teacher over one item table."""

    def __init__(
        self,
        teacher: QNetwork,
        teacher_prior: AdaptationPrior,
        student: StudentNetwork,
        student_prior: AdaptationPrior,
        table: ItemTable,
        index: CandidateIndex,
        config: DistillConfig,
        discount: float,
        generator: torch.Generator,
    ) -> None:
        self.teacher, self.teacher_prior = teacher, teacher_prior
        self.student, self.student_prior = student, student_prior
        self.table = table
        self.index = index
        self.config = config
        self.discount = discount
        self.generator = generator

    def losses(self, batch: StateBatch, shots: torch.Tensor) -> DistillationLosses:
        """Return the losses of one batch of windows, each also adapted to its first `shots` events."""
        with torch.no_grad():
            teacher_states = self.teacher.state_vectors(batch)
        student_states = self.student.state_vectors(batch)
        row, column, chosen = self._sampled_states(batch)
        prior_kl, prior_gap, next_item = self._match(
            _asked(
                teacher_states,
                row,
                column,
                self.teacher_prior.without_support(batch.attributes)[row].detach(),
            ),
            _asked(student_states, row, column, self.student_prior.without_support(batch.attributes)[row]),
            chosen,
        )
        user = torch.arange(len(shots))
        with torch.no_grad():
            teacher_fast = adapt_to_first(
                batch, teacher_states, self.table, self.teacher_prior, shots, self.discount
            )
        student_fast = adapt_to_first(
            batch, student_states, self.table, self.student_prior, shots, self.discount
        )
        place = torch.clamp(shots, max=batch.item.shape[1] - 1)
        wanted = (shots < batch.lengths) & (batch.reward[user, place] > 0)
        after = torch.where(wanted, batch.item[user, place], -1)
        adapted_kl, adapted_gap, adapted_next = self._match(
            _asked(teacher_states, user, shots, teacher_fast.mean),
            _asked(student_states, user, shots, student_fast.mean),
            after,
        )
        values = mean((student_states.value[row, column] - teacher_states.value[row, column]) ** 2)
        values = values + mean(
            (student_states.behavior_return[row, column] - teacher_states.behavior_return[row, column]) ** 2
        )
        config = self.config
        gap = prior_gap + config.adapted_weight * adapted_gap
        next_item = next_item + config.adapted_weight * adapted_next
        total = (
            prior_kl
            + config.adapted_weight * adapted_kl
            + config.advantage_weight * gap
            + config.next_item_weight * next_item
            + values / config.temperature
        )
        return DistillationLosses(
            total,
            float(prior_kl.detach()),
            float(adapted_kl.detach()),
            float(gap.detach()),
            float(next_item.detach()),
        )

    def _sampled_states(self, batch: StateBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (row, column, logged next item) of random states before a new, rewarded item."""
        row, column = torch.nonzero(torch.from_numpy(first_seen(batch)) & (batch.reward > 0), as_tuple=True)
        kept = torch.randperm(len(row), generator=self.generator)[:STATES_PER_BATCH]
        row, column = row[kept], column[kept]
        return row, column, batch.item[row, column]

    def _match(
        self, teacher: Asked, student: Asked, chosen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (KL, squared advantage gap, cross-entropy of the logged item) over the states' candidates."""
        ones = torch.ones(len(chosen), 1)
        query = torch.cat([teacher.advantage, teacher.fast, ones], dim=1)
        best = torch.from_numpy(self.index.search(query.numpy(), self.config.teacher_top)[0])
        named = torch.cat([chosen[:, None], best], dim=1)  # the logged item is first, -1 where there is none
        own = named.clamp(min=0)
        shared = torch.randint(len(self.table), (self.config.random_candidates,), generator=self.generator)
        # an item that came twice counts once
        twice = (shared[None, :, None] == named[:, None, :]).any(-1)
        absent = torch.cat([(chosen < 0)[:, None], best == chosen[:, None], twice], dim=1)
        with torch.no_grad():
            q_teacher = (
                self._q(teacher, own, shared).masked_fill(absent, -torch.inf) / self.config.temperature
            )
        q_student = self._q(student, own, shared).masked_fill(absent, -torch.inf) / self.config.temperature
        log_teacher, log_student = q_teacher.log_softmax(dim=1), q_student.log_softmax(dim=1)
        difference = (log_teacher - log_student).masked_fill(absent, 0.0)
        kl = mean((log_teacher.exp() * difference).sum(dim=1))
        count = (~absent).sum(dim=1, keepdim=True)
        gap = (q_teacher - q_student).masked_fill(absent, 0.0)
        gap = (gap - gap.sum(dim=1, keepdim=True) / count).masked_fill(absent, 0.0)
        present = chosen >= 0
        next_item = -log_student[present, 0].mean() if bool(present.any()) else log_student.new_zeros(())
        return kl, (gap**2).sum() / count.sum().clamp(min=1), next_item

    def _q(self, asked: Asked, own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return Q of each state's own and of the shared candidates, (state, own + shared)."""
        table = self.table
        own_q = (table.vectors[own] @ asked.advantage[:, :, None])[..., 0] + table.bias[own]
        own_q = own_q + (table.features[own] @ asked.fast[:, :, None])[..., 0]
        shared_q = asked.advantage @ table.vectors[shared].T + table.bias[shared]
        shared_q = shared_q + asked.fast @ table.features[shared].T
        return asked.value[:, None] + torch.cat([own_q, shared_q], dim=1)


def _asked(states: StateVectors, row: torch.Tensor, column: torch.Tensor, fast: torch.Tensor) -> Asked:
    return Asked(states.advantage[row, column], states.value[row, column], fast)
