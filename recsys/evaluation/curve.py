"""k-shot curves of networks during training: a quick look over the whole catalogue, in batches.

`evaluate` measures the served object instead; both rank by the same Q over the same cases.
"""

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
from recsys.types import FloatArray

USERS_AT_ONCE = 256  # whose scores over the catalogue are held together


@dataclass(frozen=True)
class Curve:
    """NDCG of each user, (shots, user)."""

    adapted: FloatArray
    unadapted: FloatArray

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Return the (adapted, unadapted) means, each (shots,)."""
        return self.adapted.mean(axis=1), self.unadapted.mean(axis=1)


@torch.no_grad()
def kshot_curve(
    network: QNetwork | StudentNetwork,
    table: ItemTable,
    prior: AdaptationPrior | None,
    cases: ColdCases,
    shots: tuple[int, ...],
    cutoff: int,
    discount: float,
) -> Curve:
    """Return the curve of a network with and without fast weights; without a prior both are the plain network."""
    was_training = network.training
    network.eval()
    mean = table.features @ prior.mean if prior is not None else torch.zeros(len(table))
    adapted: list[FloatArray] = [np.zeros((len(shots), 0), np.float32)]
    unadapted = list(adapted)
    for start in range(0, len(cases), USERS_AT_ONCE):
        part = cases.rows(slice(start, start + USERS_AT_ONCE))
        with_fast, without = _part_curve(network, table, prior, mean, part, shots, cutoff, discount)
        adapted.append(with_fast)
        unadapted.append(without)
    network.train(was_training)
    return Curve(np.concatenate(adapted, axis=1), np.concatenate(unadapted, axis=1))


def _part_curve(
    network: QNetwork | StudentNetwork,
    table: ItemTable,
    prior: AdaptationPrior | None,
    mean: torch.Tensor,
    cases: ColdCases,
    shots: tuple[int, ...],
    cutoff: int,
    discount: float,
) -> tuple[FloatArray, FloatArray]:
    batch = encode_states(cases.first, max_events=max(shots))
    states = network.state_vectors(batch)
    excluded = exclusion_mask(cases, len(table))
    ties = tie_order(len(table), seed=0)

    def score(ranking: torch.Tensor) -> FloatArray:
        return ndcg(hits(top_items(ranking.numpy(), excluded, cutoff, ties), cases.query), cases.query.sizes)

    adapted, unadapted = [], []
    for shot in shots:
        base = states.advantage[:, shot] @ table.vectors.T + table.bias
        unadapted.append(score(base + mean))
        if prior is None or shot == 0:
            adapted.append(unadapted[-1])
            continue
        fast = adapt_to_first(batch, states, table, prior, torch.full((len(cases),), shot), discount)
        adapted.append(score(base + fast.mean @ table.features.T))
    return np.stack(adapted), np.stack(unadapted)
