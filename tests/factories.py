"""Small real artifacts for tests that need a model but not a trained one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recsys.adaptation import AdaptationPrior
from recsys.artifacts.bundle import save_bundle, save_policy_bundle
from recsys.artifacts.bundle_info import PolicyInfo, QInfo
from recsys.candidates.index import build_index
from recsys.catalogue import Catalogue
from recsys.config import ExplorationConfig, IndexConfig, RewardConfig, StateConfig
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape
from recsys.models.student import StudentNetwork
from recsys.policies.policy import KeptPolicy

EVENT_TYPES = ("cancellation", "click", "impression", "purchase")


def tiny_shape(items: int = 40, features: int = 8) -> NetworkShape:
    return NetworkShape(
        items=items,
        content_features=4,
        item_features=features,
        hidden=8,
        layers=1,
        encoder="recurrent",
        event_types=len(EVENT_TYPES),
        attribute_sizes=(2,),
        max_events=20,
        dropout=0.0,
        id_dropout=0.0,
    )


def write_tiny_bundle(
    folder: Path,
    *,
    items: int = 40,
    seed: int = 0,
    exploration: ExplorationConfig | None = None,
) -> Path:
    """Write a bundle with random weights: item ids i0, i1, …; user attribute country in {UK, France}."""
    torch.manual_seed(seed)
    shape = tiny_shape(items)
    table = ItemTable.of(
        torch.randn(items, shape.item_features) * 0.3, torch.randn(items) * 0.1, torch.randn(items, 6) * 0.5
    )
    info = QInfo(
        shape=shape,
        state=StateConfig(max_events=shape.max_events),
        discount=0.5,
        event_types=EVENT_TYPES,
        attributes=("country",),
        attribute_values=(("UK", "France"),),
        reward=RewardConfig(),
        index=IndexConfig(candidates=20),
        exploration=exploration or ExplorationConfig(temperature=0.05),
    )
    catalogue = Catalogue(
        item_ids=tuple(f"i{index}" for index in range(items)),
        titles=tuple(f"Item {index}" for index in range(items)),
        categories=tuple((f"group {index % 3}",) for index in range(items)),
        price=np.linspace(1, 10, items, dtype=np.float32),
        available=np.ones(items, bool),
    )
    prior = AdaptationPrior(6, len(EVENT_TYPES))
    index = build_index(table.index_vectors().numpy(), info.index)
    save_bundle(
        folder,
        info,
        StudentNetwork(shape),
        prior,
        table,
        torch.arange(items, 0, -1).float(),
        catalogue,
        index,
    )
    return folder


def write_policy_bundle(
    folder: Path,
    policy: KeptPolicy,
    items: int,
    *,
    unavailable: Sequence[int] = (),
    candidates: int = 20,
    exploration: ExplorationConfig | None = None,
) -> Path:
    """Write a bundle around a fitted baseline: item ids i0, i1, …; user attribute country in {UK, France}."""
    info = PolicyInfo(
        state=StateConfig(max_events=20),
        event_types=EVENT_TYPES,
        attributes=("country",),
        attribute_values=(("UK", "France"),),
        reward=RewardConfig(),
        exploration=exploration or ExplorationConfig(temperature=0.5),
        candidates=candidates,
    )
    available = np.ones(items, bool)
    available[list(unavailable)] = False
    catalogue = Catalogue(
        item_ids=tuple(f"i{index}" for index in range(items)),
        titles=tuple(f"Item {index}" for index in range(items)),
        categories=((),) * items,
        price=np.ones(items, np.float32),
        available=available,
    )
    save_policy_bundle(folder, info, policy, np.arange(items, 0, -1).astype(np.float32), catalogue)
    return folder
