"""Networks between steps: safetensors for weights, JSON for shapes, no pickle."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file

from recsys.adaptation import AdaptationHead, AdaptationPrior
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape, QNetwork
from recsys.models.student import StudentNetwork


def save_shape(shape: NetworkShape, path: Path) -> None:
    """Write a network's shape."""
    path.write_text(json.dumps(asdict(shape), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_shape(path: Path) -> NetworkShape:
    """Read a network's shape."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return NetworkShape(**{**raw, "attribute_sizes": tuple(raw["attribute_sizes"])})


def load_teacher(folder: Path, temperature: float) -> QNetwork:
    """Read `teacher.json` and `teacher.safetensors`."""
    network = QNetwork(load_shape(folder / "teacher.json"), temperature)
    network.load_state_dict(load_file(str(folder / "teacher.safetensors")))
    return network


def load_student(folder: Path) -> StudentNetwork:
    """Read `student.json` and `student.safetensors`; the item table is handed in afterwards."""
    network = StudentNetwork(load_shape(folder / "student.json"))
    network.load_state_dict(load_file(str(folder / "student.safetensors")))
    return network


def load_head(path: Path) -> AdaptationHead:
    """Read an adaptation head; its sizes are those of its tensors."""
    weights = load_file(str(path))
    items = len(weights["factors"])
    prior = {
        name.removeprefix("prior."): value for name, value in weights.items() if name.startswith("prior.")
    }
    head = AdaptationHead(items, weights["content"].shape[1], AdaptationPrior.from_weights(prior))
    head.load_state_dict(weights)
    return head


def save_table(table: ItemTable, path: Path) -> None:
    """Write an item table."""
    columns = {"vectors": table.vectors, "bias": table.bias, "features": table.features}
    save_file({name: column.contiguous() for name, column in columns.items()}, str(path))


def load_table(path: Path) -> ItemTable:
    """Read an item table."""
    columns = load_file(str(path))
    return ItemTable.of(columns["vectors"], columns["bias"], columns["features"])
