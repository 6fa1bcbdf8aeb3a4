"""What a teacher of one log knows about another log's catalogue, and a teacher that starts from it.

Items meet by name, where the catalogues share some, and through their content, which lies in one space for
both logs (recsys/logs/shared_content.py). An item of the new catalogue gets

    μ̂_i = μ_j of the item j of the same name, else a_i · R c_i,   R = (C'C + λI)⁻¹ C'M  on the source's items
    p̂_i = the share of source histories with j,  else the mean share · exp(a_i · (r'c_i))

where a_i is how far content can be trusted: the share of the item's words that the source has, times the R² of the same
regression on source items that it has not seen. μ̂ and content enter the new log's co-occurrence factors as rows beside
its histories (`cooccurrence_factors`), p̂ its popularity as counts: they weigh as a stated number of histories, so a log
that grows speaks for itself. The sequence encoder, the heads and what a history's events are worth start as the source
left them, the content map at the mean of a_i (1 for the same item); event types are matched by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recsys.learning.growth import ITEM_TABLES
from recsys.models.history_memory import HistoryMemory
from recsys.models.q_network import QNetwork
from recsys.types import FloatArray, LongArray

_RIDGE = 0.1  # of the mean eigenvalue of C'C
_BY_TYPE = ("states.tokens.event_type.weight", "states.memory.by_type")
_OF_ONE_LOG = ("states.tokens.attributes.", "states.responses.")  # start afresh


@dataclass(frozen=True)
class Source:
    """What is known of the log that is transferred from; first axis item where an array has one."""

    teacher: QNetwork
    names: Sequence[str]  # by which items are matched, empty = by none
    content: FloatArray
    popularity: FloatArray  # training histories with the item
    histories: int
    event_types: tuple[str, ...]


@dataclass(frozen=True)
class Carried:
    """What the source says of the new catalogue; first axis item."""

    row: LongArray  # of the same item in the source, -1 = none
    trust: FloatArray  # 1 for the same item, a_i for content alone
    memory: FloatArray  # μ̂, (item, memory feature)
    share: FloatArray  # p̂
    energy: FloatArray  # (memory feature,), length of each feature over the source's items
    explained: float  # R² of content on source items that the regression has not seen

    @property
    def matched(self) -> int:
        """How many items are the source's."""
        return int((self.row >= 0).sum())


def carry(
    source: Source,
    names: Sequence[str],  # as of the source
    content: FloatArray,
    familiar: FloatArray,  # share of each item's words that the source has
) -> Carried:
    """Return what the source says of a catalogue, (item, ...)."""
    place = {name: index for index, name in enumerate(source.names) if name}
    row = np.array([place.get(name, -1) if name else -1 for name in names], np.int64)
    row[(row >= 0) & (source.popularity[row] == 0)] = -1
    known = np.flatnonzero(source.popularity > 0)
    table = source.teacher.tower.memory
    memory = np.zeros((len(source.content), 0)) if table is None else table.weight.detach().numpy()
    popularity = np.log(np.maximum(source.popularity[known], 1.0))
    centred = popularity - popularity.mean() if len(known) else popularity
    goal = np.concatenate([memory[known], centred[:, None]], axis=1)
    explained = _explained(source.content[known], goal)
    fitted = (
        _ridge(source.content[known], goal) if len(known) else np.zeros((content.shape[1], goal.shape[1]))
    )
    told = content @ fitted
    trust = np.where(row >= 0, 1.0, familiar * explained)
    same = row >= 0
    guessed = np.where(same[:, None], 0.0, told[:, :-1])
    guessed[same] = memory[row[same]]
    mean = float(np.exp(popularity.mean())) / max(source.histories, 1) if len(known) else 0.0
    share = mean * np.exp(np.clip(trust * told[:, -1], -5.0, 5.0))
    share[same] = source.popularity[row[same]] / max(source.histories, 1)
    return Carried(
        row,
        trust.astype(np.float32),
        (guessed * trust[:, None]).astype(np.float32),
        np.minimum(share, 1.0).astype(np.float32),
        np.linalg.norm(memory[known], axis=0).astype(np.float32),
        explained,
    )


def prior_rows(
    carried: Carried, content: FloatArray, source_histories: float, content_histories: float
) -> FloatArray:
    """Return rows beside the histories, (row, item): the source's co-occurrence and likeness of content.

    Factors are V S^½ of the source, its co-occurrence is V S² V'; so a feature counts by its length.
    """
    known = carried.memory * carried.energy
    return np.concatenate([_counting(known, source_histories), _counting(content, content_histories)]).astype(
        np.float32
    )


def volume(carried: Carried, popularity: FloatArray, source_histories: float, half: float) -> FloatArray:
    """Return n_i / (n_i + half), (item,), n_i the histories with the item, those that the source stands for included.

    Factors have one length on average however little they rest on, and the source's readout expects those of a whole
    log; a memory that rests on nothing must not outshout popularity.
    """
    counted = popularity + source_histories * carried.share * carried.trust
    heard: FloatArray = (counted / np.maximum(counted + half, 1e-12)).astype(np.float32)
    return heard


@torch.no_grad()
def warm_start(network: QNetwork, source: Source, carried: Carried, event_types: Sequence[str]) -> None:
    """Let a fresh teacher start as the source's, all but its item tables, whose rows start for matched items.

    Raises ValueError naming the first part whose shape differs.
    """
    weights, own = source.teacher.state_dict(), network.state_dict()
    code = torch.tensor([_place(source.event_types, name) for name in event_types])
    for name, value in own.items():
        if name in ITEM_TABLES or name.startswith(_OF_ONE_LOG):
            continue
        if name not in weights:
            raise ValueError(f"the source has no {name}")
        if name in _BY_TYPE:
            value[code >= 0] = weights[name][code[code >= 0]]
            continue
        if weights[name].shape != value.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, in the source {tuple(weights[name].shape)}")
        value.copy_(weights[name])
    # content speaks as loudly as it could tell items it had not seen, in words that the source knows
    network.tower.content_map.weight.mul_(float(carried.trust.mean()) if len(carried.trust) else 0.0)
    same = torch.from_numpy(np.flatnonzero(carried.row >= 0))
    there = torch.from_numpy(carried.row[carried.row >= 0])
    network.tower.id_embedding.weight[same] = source.teacher.tower.id_embedding.weight[there]
    network.tower.known[same] = 1.0
    if network.states.memory is not None and not aligned(carried):
        _forget_coordinates(network.states.memory, carried.energy)


def aligned(carried: Carried) -> bool:
    """Say whether enough items are shared for factors to be turned into the source's coordinates."""
    return bool(carried.matched >= max(carried.memory.shape[1], 1))


def _forget_coordinates(memory: HistoryMemory, energy: FloatArray) -> None:
    """Give every feature the mean readout, weighed by length: which feature is which differs from log to log."""
    weight = torch.from_numpy(energy**2 / max(float((energy**2).sum()), 1e-12))
    for readout in (memory.log_readout, memory.log_behavior_readout):
        if readout is not None:
            readout.fill_(float((readout * weight).sum()))


def _counting(columns: FloatArray, histories: float) -> FloatArray:
    """Return columns, (item, row), as rows whose squares sum to a number of histories."""
    total = float(np.square(columns).sum())
    scaled: FloatArray = columns.T * np.sqrt(histories / total if total > 0 else 0.0)
    return scaled


def _ridge(content: FloatArray, goal: FloatArray) -> FloatArray:
    gram = content.T.astype(np.float64) @ content
    scale = _RIDGE * max(float(np.trace(gram)) / max(len(gram), 1), 1e-9)
    solved: FloatArray = np.linalg.solve(gram + scale * np.eye(len(gram)), content.T @ goal)
    return solved


def _explained(content: FloatArray, goal: FloatArray) -> float:
    """Return the share of variance that content tells of items it was not fitted on, in two halves; at least 0."""
    if len(content) < 4:
        return 0.0
    half = np.arange(len(content)) % 2 == 0
    left = sum(
        float(np.square(goal[test] - content[test] @ _ridge(content[~test], goal[~test])).sum())
        for test in (half, ~half)
    )
    return max(0.0, 1.0 - left / max(float(np.square(goal).sum()), 1e-12))


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1
