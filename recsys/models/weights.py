"""A module's weights on disk: safetensors, no pickle."""

from pathlib import Path

from safetensors.torch import save_file
from torch import nn


def save_module(module: nn.Module, path: Path) -> None:
    """Write a module's parameters and persistent buffers."""
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, str(path))
