"""How alike a student ranks and its teacher, beside how well each does: NDCG, overlap of lists, rank correlation.

All by Q over the whole catalogue for the same cold users after the same number of events. The rank correlation is
Spearman's over the teacher's best candidates, as many as a request retrieves: the order below them is served to nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.evaluation.cold_start import ColdCases, exclusion_mask
from recsys.evaluation.ranking import hits, ndcg, tie_order, top_items
from recsys.mdp.state import encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork
from recsys.models.student import StudentNetwork
from recsys.types import FloatArray, IntArray

USERS_AT_ONCE = 256  # whose scores over the catalogue are held together

Ranked = tuple[QNetwork | StudentNetwork, AdaptationPrior, ItemTable]


@dataclass(frozen=True)
class Agreement:
    """One row a number of shots, one column a user; all (shots, user)."""

    teacher_ndcg: FloatArray
    student_ndcg: FloatArray
    overlap: FloatArray  # share of the teacher's list that is in the student's
    correlation: FloatArray  # Spearman's, over the teacher's best candidates

    def plain(self, shots: Sequence[int]) -> dict[str, dict[str, float]]:
        """Return means over users by number of shots; none where there are no users."""
        if not self.overlap.size:
            return {}
        teacher, student = self.teacher_ndcg.mean(axis=1), self.student_ndcg.mean(axis=1)
        overlap, correlation = self.overlap.mean(axis=1), self.correlation.mean(axis=1)
        return {
            str(k): {
                "teacher_ndcg": round(float(teacher[place]), 4),
                "student_ndcg": round(float(student[place]), 4),
                "of_teacher": round(float(student[place] / max(teacher[place], 1e-9)), 4),
                "overlap": round(float(overlap[place]), 4),
                "rank_correlation": round(float(correlation[place]), 4),
            }
            for place, k in enumerate(shots)
        }


def agreement(
    teachers: Sequence[Ranked],
    student: Ranked,
    cases: ColdCases,
    shots: Sequence[int],
    cutoff: int,
    discount: float,
    candidates: int = 200,
) -> Agreement:
    """Compare a student with the mean of its teachers' adapted Q."""
    items = len(student[2])
    ties = tie_order(items, seed=0)
    found: list[list[FloatArray]] = []
    for start in range(0, len(cases), USERS_AT_ONCE):
        part = cases.rows(slice(start, start + USERS_AT_ONCE))
        excluded = exclusion_mask(part, items)
        for k in shots:
            wanted = np.mean([adapted_q(*each, part, k, discount) for each in teachers], axis=0)
            said = adapted_q(*student, part, k, discount)
            best = top_items(wanted, excluded, max(candidates, cutoff), ties)
            theirs, ours = best[:, :cutoff], top_items(said, excluded, cutoff, ties)
            found.append(
                [
                    ndcg(hits(theirs, part.query), part.query.sizes),
                    ndcg(hits(ours, part.query), part.query.sizes),
                    list_overlap(theirs, ours),
                    rank_correlation(np.take_along_axis(wanted, best, 1), np.take_along_axis(said, best, 1)),
                ]
            )
    if not found:
        nobody = np.zeros((len(shots), 0), np.float32)
        return Agreement(nobody, nobody, nobody, nobody)
    by_shot = [found[place :: len(shots)] for place in range(len(shots))]
    columns = [
        np.stack([np.concatenate([part[what] for part in parts]) for parts in by_shot]) for what in range(4)
    ]
    return Agreement(*columns)


@torch.no_grad()
def adapted_q(
    network: QNetwork | StudentNetwork,
    prior: AdaptationPrior,
    table: ItemTable,
    cases: ColdCases,
    shots: int,
    discount: float,
) -> FloatArray:
    """Return Q less V after the first `shots` events of each user, adapted to them, (user, item)."""
    was_training = network.training
    network.eval()
    batch = encode_states([history.first(shots) for history in cases.first], max_events=max(1, shots))
    states = network.state_vectors(batch)
    network.train(was_training)
    row = torch.arange(len(cases))
    k = batch.lengths
    fast = prior.before_support(batch.attributes)
    if shots:
        fast = adapt_to_first(batch, states, table, prior, k, discount)
    q: FloatArray = (
        states.advantage[row, k] @ table.vectors.T + table.bias + fast.shift(table.features)
    ).numpy()
    return q


def list_overlap(one: IntArray, other: IntArray) -> FloatArray:
    """Return the share of each list's items, (user, position), that the other has too; (user,)."""
    shared = (one[:, :, None] == other[:, None, :]).any(axis=2)
    share: FloatArray = shared.mean(axis=1).astype(np.float32)
    return share


def rank_correlation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return Spearman's ρ of two scores of the same candidates, (user, candidate), ties as they stand; (user,)."""
    first, second = (
        np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1) for scores in (one, other)
    )
    count = one.shape[1]
    if count < 2:
        return np.ones(len(one), np.float32)
    squared = ((first - second).astype(np.float64) ** 2).sum(axis=1)
    rho: FloatArray = (1.0 - 6.0 * squared / (count * (count**2 - 1.0))).astype(np.float32)
    return rho
