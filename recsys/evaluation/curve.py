"""k-shot curves of networks during training: a quick look over the whole catalogue, in batches.

`evaluate` measures the served object instead; both rank by the same Q over the same cases.
"""

from dataclasses import dataclass

import numpy as np
import torch

from recsys.adaptation import InnerLoop, first_support
from recsys.evaluation.cold_start import ColdCases, exclusion_mask
from recsys.evaluation.ranking import hits, ndcg, tie_order, top_items
from recsys.mdp.state import encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork, without_memory
from recsys.models.student import StudentNetwork
from recsys.types import FloatArray, IntArray

USERS_AT_ONCE = 256  # whose scores over the catalogue are held together


@dataclass(frozen=True)
class Curve:
    """NDCG of each user, (shots, user); without users one column of NaN."""

    adapted: FloatArray
    unadapted: FloatArray

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Return the (adapted, unadapted) means, each (shots,)."""
        return self.adapted.mean(axis=1), self.unadapted.mean(axis=1)


def kshot_curve(
    network: QNetwork | StudentNetwork,
    table: ItemTable,
    prior: InnerLoop | None,
    cases: ColdCases,
    shots: tuple[int, ...],
    cutoff: int,
    discount: float,
) -> Curve:
    """Return the curve of a network with and without fast weights.

    Fast weights are the memory's, which every network with a memory has, and those of a prior, if there is one; both
    are zero before the first event.
    """
    if len(cases) == 0:
        unknown = np.full((len(shots), 1), np.nan, np.float32)
        return Curve(unknown, unknown)
    both = kshot_lists(network, table, prior, cases, shots, cutoff, discount)
    adapted, unadapted = (
        np.stack([ndcg(hits(ranked, cases.query), cases.query.sizes) for ranked in lists]) for lists in both
    )
    return Curve(adapted, unadapted)


@torch.no_grad()
def kshot_lists(
    network: QNetwork | StudentNetwork,
    table: ItemTable,
    prior: InnerLoop | None,
    cases: ColdCases,
    shots: tuple[int, ...],
    cutoff: int,
    discount: float,
) -> tuple[list[IntArray], list[IntArray]]:
    """Return the (adapted, unadapted) best items after each number of shots, each (user, at most cutoff)."""
    was_training = network.training
    network.eval()
    ties = tie_order(len(table), seed=0)
    empty = np.zeros((0, min(cutoff, len(table))), np.int32)
    adapted: list[list[IntArray]] = [[empty] for _ in shots]
    unadapted: list[list[IntArray]] = [[empty] for _ in shots]
    for start in range(0, len(cases), USERS_AT_ONCE):
        part = cases.rows(slice(start, start + USERS_AT_ONCE))
        batch = encode_states(part.first, max_events=max(shots))
        states = network.state_vectors(batch)
        excluded = exclusion_mask(part, len(table))
        at_start = torch.zeros(1, len(table))
        if prior is not None:
            at_start = prior.before_support(batch.attributes).shift(table.features)
        for place, shot in enumerate(shots):
            asked = states.advantage[:, shot]
            silent = without_memory(asked, network.shape.item_features) @ table.vectors.T + table.bias
            unadapted[place].append(top_items((silent + at_start).numpy(), excluded, cutoff, ties))
            if shot == 0:
                adapted[place].append(unadapted[place][-1])
                continue
            shift = at_start
            if prior is not None:
                k = torch.full((len(part),), shot)
                support = first_support(batch, states, table, k, discount, int(prior.n_step))
                shift = prior.adapt(*support).shift(table.features)
            scores = (asked @ table.vectors.T + table.bias + shift).numpy()
            adapted[place].append(top_items(scores, excluded, cutoff, ties))
    network.train(was_training)
    return [np.concatenate(parts) for parts in adapted], [np.concatenate(parts) for parts in unadapted]
