"""Teacher -> student: match Q where it decides, before and after adaptation.

On a candidate set C (the teacher's best items ∪ the student's own best of the index ∪ random ones ∪ the logged next
item) the losses are
    KL( softmax(Q_T / T) ‖ softmax(Q_S / T) )                 the order among candidates (Hinton et al. 2015)
    mean (A_T − A_S)², A = (Q − mean over C of Q) / T         the gaps between them
    cross-entropy of the logged next item under Q_S / T       the hard label
and the squared distance of V and U, which evidence is measured against. States in prior mode and states adapted to a
sampled support are treated alike: what is distilled includes how the teacher adapts. Without a teacher, which is the
control, the hard label is left, and U learns the discounted return of the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from recsys.config import DistillConfig
from recsys.learning.losses import mean
from recsys.learning.teachers import Asked, Learner, Teacher
from recsys.mdp.state import StateBatch
from recsys.mdp.windows import first_seen
from recsys.models.q_network import StateVectors

STATES_PER_BATCH = 256  # prior-mode states that a batch of windows is asked about


@dataclass(frozen=True)
class DistillationLosses:
    """Scalars of one update; `total` carries the gradient."""

    total: torch.Tensor
    prior_kl: float
    adapted_kl: float
    advantage: float
    next_item: float


class Distiller:
    """Turns batches of windows into losses of the student against a frozen teacher.

    The student's item table must be that of the teacher's first member, whose index is then the student's too.
    """

    def __init__(
        self,
        teacher: Teacher,
        student: Learner,
        config: DistillConfig,
        discount: float,
        generator: torch.Generator,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.config = config
        self.discount = discount
        self.generator = generator
        # what the student itself would retrieve is where its mistakes are
        self._own_index = Teacher.of([student]).indexes[0] if not teacher.indexes else teacher.indexes[0]

    def losses(self, batch: StateBatch, shots: torch.Tensor) -> DistillationLosses:
        """Return the losses of one batch of windows, each also adapted to its first `shots` events."""
        config, members = self.config, self.teacher.members
        row, column, chosen = self._sampled_states(batch)
        user = torch.arange(len(shots))
        place = torch.clamp(shots, max=batch.item.shape[1] - 1)
        wanted = (shots < batch.lengths) & (batch.reward[user, place] > 0)
        after = torch.where(wanted, batch.item[user, place], -1)
        with torch.no_grad():
            told = [member.network.state_vectors(batch) for member in members]
            teacher_prior = [m.unadapted(t, batch, row, column) for m, t in zip(members, told, strict=True)]
            teacher_adapted = [
                m.adapted(t, batch, shots, self.discount) for m, t in zip(members, told, strict=True)
            ]
        states = self.student.network.state_vectors(batch)
        prior_kl, prior_gap, next_item = self._match(
            teacher_prior, self.student.unadapted(states, batch, row, column), chosen
        )
        adapted_kl, adapted_gap, adapted_next = self._match(
            teacher_adapted, self.student.adapted(states, batch, shots, self.discount), after
        )
        kl = prior_kl + config.adapted_weight * adapted_kl
        gap = prior_gap + config.adapted_weight * adapted_gap
        next_item = next_item + config.adapted_weight * adapted_next
        values = self._values(told, states, batch, row, column)
        total = (
            config.kl_weight * kl
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

    def _values(
        self,
        told: Sequence[StateVectors],
        states: StateVectors,
        batch: StateBatch,
        row: torch.Tensor,
        column: torch.Tensor,
    ) -> torch.Tensor:
        """Return the squared distance of V and U from the teacher's, or that of U from the log's return."""
        if not told:
            returns = logged_returns(batch, states.behavior_return.detach(), self.discount)
            return mean((states.behavior_return[:, :-1] - returns)[batch.present] ** 2)
        value = torch.stack([each.value[row, column] for each in told]).mean(dim=0)
        earned = torch.stack([each.behavior_return[row, column] for each in told]).mean(dim=0)
        return mean((states.value[row, column] - value) ** 2) + mean(
            (states.behavior_return[row, column] - earned) ** 2
        )

    def _sampled_states(self, batch: StateBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (row, column, logged next item) of random states before a new, rewarded item."""
        row, column = torch.nonzero(torch.from_numpy(first_seen(batch)) & (batch.reward > 0), as_tuple=True)
        kept = torch.randperm(len(row), generator=self.generator)[:STATES_PER_BATCH]
        row, column = row[kept], column[kept]
        return row, column, batch.item[row, column]

    def _match(
        self, teacher: Sequence[Asked], student: Asked, chosen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (KL, squared advantage gap, cross-entropy of the logged item) over the states' candidates."""
        config = self.config
        named = [chosen[:, None], *self.teacher.best(teacher, config.teacher_top)]
        if config.index_top:
            found = self._own_index.search(student.query.detach().numpy(), config.index_top)[0]
            named.append(torch.from_numpy(found))
        items = torch.cat(named, dim=1)  # the logged item is first, -1 where there is none
        shared = torch.randint(len(self.student.table), (config.random_candidates,), generator=self.generator)
        absent = repeated(torch.cat([items, shared.expand(len(items), -1)], dim=1))
        own = items.clamp(min=0)
        q_student = self.student.q(student, own, shared).masked_fill(absent, -torch.inf) / config.temperature
        log_student = q_student.log_softmax(dim=1)
        present = chosen >= 0
        next_item = -log_student[present, 0].mean() if bool(present.any()) else log_student.new_zeros(())
        if not teacher:
            return log_student.new_zeros(()), log_student.new_zeros(()), next_item
        with torch.no_grad():
            q_teacher = self.teacher.q(teacher, own, shared)
            q_teacher = q_teacher.masked_fill(absent, -torch.inf) / config.temperature
        log_teacher = q_teacher.log_softmax(dim=1)
        difference = (log_teacher - log_student).masked_fill(absent, 0.0)
        kl = mean((log_teacher.exp() * difference).sum(dim=1))
        count = (~absent).sum(dim=1, keepdim=True)
        gap = (q_teacher - q_student).masked_fill(absent, 0.0)
        gap = (gap - gap.sum(dim=1, keepdim=True) / count).masked_fill(absent, 0.0)
        return kl, (gap**2).sum() / count.sum().clamp(min=1), next_item


def repeated(items: torch.Tensor) -> torch.Tensor:
    """Return which places of each row, (state, candidate), hold what stood before in it, or nothing (-1)."""
    ordered, order = items.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    again |= ordered < 0
    return torch.zeros_like(again).scatter(1, order, again)


def logged_returns(batch: StateBatch, bootstrap: torch.Tensor, discount: float) -> torch.Tensor:
    """Return Σ γ^j r_{t+j} of the rest of each window, (batch, time), with U(s) of its last state behind it."""
    users = torch.arange(len(batch.lengths))
    total = torch.zeros_like(batch.reward)
    later = bootstrap[users, batch.lengths]
    for column in range(batch.reward.shape[1] - 1, -1, -1):
        here = column < batch.lengths
        later = torch.where(here, batch.reward[:, column] + discount * later, later)
        total[:, column] = later
    return total
