"""A teacher, its head and a student over a catalogue that has grown: known rows stay, new ones get a first guess.

A new item starts with no id, with the memory factors that its co-occurrence gives it, and with the bias that its
popularity gives it. Factors of a new decomposition lie in coordinates of their own; the orthogonal map that brings
those of known items nearest to where they are brings new ones there too (Procrustes): known items need not move.
"""

from dataclasses import replace

import numpy as np
import torch

from recsys.adaptation import AdaptationHead
from recsys.learning.factors import rotate_onto
from recsys.models.q_network import QNetwork
from recsys.types import BoolArray, FloatArray

ITEM_TABLES = (
    "tower.id_embedding.weight",
    "tower.bias.weight",
    "tower.memory.weight",
    "tower.content",
    "tower.known",
    "behavior_bias.weight",
)


def grown_teacher(network: QNetwork, content: FloatArray) -> QNetwork:
    """Return the same teacher with rows for more items, zero but for their content, (item, feature)."""
    grown = QNetwork(replace(network.shape, items=len(content)), network.temperature)
    weights = network.state_dict()
    for name in ITEM_TABLES:
        if name in weights:
            weights[name] = _longer(weights[name], len(content))
    weights["tower.content"] = torch.cat(
        [network.tower.content, torch.from_numpy(content[network.shape.items :])]
    )
    grown.load_state_dict(weights)
    return grown


def grown_head(head: AdaptationHead, content: FloatArray) -> AdaptationHead:
    """Return the same head with rows for more items, without factors but with content, (item, feature)."""
    before = len(head.factors)
    grown = AdaptationHead(len(content), content.shape[1], head.prior)
    weights = head.state_dict()
    weights["factors"] = _longer(head.factors, len(content))
    weights["content"] = torch.cat([head.content, torch.from_numpy(content[before:])])
    grown.load_state_dict(weights)
    return grown


def placed(factors: FloatArray, before: FloatArray, known: BoolArray) -> FloatArray:
    """Return `before` with rows for items that are not `known`, (item,), brought there with the known ones.

    Both tables have shape (item, feature); `before` needs rows of known items only.
    """
    turned = rotate_onto(factors, np.where(known[:, None], before, 0.0).astype(np.float32))
    kept: FloatArray = np.where(known[:, None], before, turned).astype(np.float32)
    return kept


@torch.no_grad()
def follow_popularity(
    network: QNetwork, before: FloatArray, now: FloatArray, known: BoolArray, *, of_values: bool
) -> None:
    """Move biases by Δ log(1 + popularity) less its mean over `known` items, so that Q keeps its level; all (item,).

    An item that is not known gets log(1 + popularity), where biases start, at the level that known ones have now.
    Where Q started from content alone (not `of_values`), how often an item is taken is no part of it: biases of Q stay,
    and a new item gets the mean of the known ones'.
    """
    was, is_now = np.log1p(before).astype(np.float32), np.log1p(now).astype(np.float32)
    level = float((is_now - was)[known].mean()) if known.any() else 0.0
    step, start = (torch.from_numpy(x - level)[:, None] for x in (is_now - was, is_now))
    fixed = torch.from_numpy(known)[:, None]
    values = network.tower.bias.weight
    if not of_values:
        values.copy_(torch.where(fixed, values, values[fixed].mean() if known.any() else 0.0))
    for table in (values, network.behavior_bias.weight) if of_values else (network.behavior_bias.weight,):
        learnt = (table - torch.from_numpy(was)[:, None])[fixed].mean() if known.any() else 0.0
        table.copy_(torch.where(fixed, table + step, start + learnt))


def _longer(table: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat([table, table.new_zeros(rows - len(table), *table.shape[1:])])
