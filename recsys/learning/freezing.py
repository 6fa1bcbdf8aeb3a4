"""Which parts of a teacher stay as they are while it learns from another log, or from what is new.

    vectors   what e_i of known items is made of: id embedding, memory factors, content map
    content   the content map alone: which content makes which vector
    memory    what a history says of items that go together: trust, forgetting, readout
    encoder   tokens and sequence encoder
    heads     what asks item vectors with states, and the values of states

Biases are part of none: how popular an item is changes with every log.
"""

from collections.abc import Collection, Iterable

import torch
from torch import nn

from recsys.models.q_network import QNetwork
from recsys.training_config import Part


def parameters_of(network: QNetwork, part: Part) -> list[nn.Parameter]:
    """Return the parameters of one part."""
    tower, states = network.tower, network.states
    tables = [tower.id_embedding, *([] if tower.memory is None else [tower.memory])]
    encoder = states.encoder
    modules: dict[Part, Iterable[object]] = {
        "vectors": [*tables, tower.content_map],
        "content": [tower.content_map],
        "memory": [states.memory],
        "encoder": [states.tokens, encoder],
        "heads": [states.advantage, states.behavior, states.scalars, states.offsets, states.responses],
    }
    return [p for module in modules[part] if isinstance(module, nn.Module) for p in module.parameters()]


def freeze(network: QNetwork, parts: Collection[Part], known: torch.Tensor | None = None) -> None:
    """Let some parts learn nothing and all others learn.

    With `known`, (item,) bool, tables of "vectors" stay as they are only in its rows.
    """
    network.requires_grad_(True)
    for part in parts:
        for parameter in parameters_of(network, part):
            parameter.requires_grad_(False)
    if known is not None and "vectors" in parts:
        for table in item_tables(network):
            table.requires_grad_(True)


def hold_rows(network: QNetwork, known: torch.Tensor) -> list[torch.utils.hooks.RemovableHandle]:
    """Let no gradient reach the `known` rows, (item,) bool, of the vector tables; return what ends it.

    With no decay on those tables a row without gradient stays bit for bit (`item_tables`).
    """
    new = ~known

    def only_new(gradient: torch.Tensor) -> torch.Tensor:
        if not gradient.is_sparse:
            return gradient * new[:, None]
        gradient = gradient.coalesce()
        row = gradient.indices()[0]
        kept = new[row]
        return torch.sparse_coo_tensor(
            row[None, kept], gradient.values()[kept], gradient.shape, check_invariants=False
        )

    return [table.register_hook(only_new) for table in item_tables(network)]  # type: ignore[no-untyped-call]


def item_tables(network: QNetwork) -> list[nn.Parameter]:
    """Return the tables of item vectors, one row an item."""
    memory = network.tower.memory
    return [
        p for table in (network.tower.id_embedding, memory) if table is not None for p in table.parameters()
    ]
